#include "tests/testing/tensor_matrix.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cstring>
#include <functional>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace tensorferry {
namespace testing {
namespace {

const c10::ScalarType kPlain[] = {at::kByte,
                                  at::kChar,
                                  at::kShort,
                                  at::kInt,
                                  at::kLong,
                                  at::kHalf,
                                  at::kFloat,
                                  at::kDouble,
                                  at::kComplexHalf,
                                  at::kComplexFloat,
                                  at::kComplexDouble,
                                  at::kBool,
                                  at::kBFloat16,
                                  at::kUInt16,
                                  at::kUInt32,
                                  at::kUInt64,
                                  at::kFloat8_e5m2,
                                  at::kFloat8_e4m3fn,
                                  at::kFloat8_e5m2fnuz,
                                  at::kFloat8_e4m3fnuz,
                                  at::kFloat8_e8m0fnu};

std::mt19937& Random() {
  static auto* random = new std::mt19937(20240611);
  return *random;
}

// A contiguous tensor of any dtype; bools hold 0 and 1 only.
at::Tensor Filled(at::IntArrayRef sizes, c10::ScalarType dtype) {
  at::Tensor tensor = at::empty(sizes, at::TensorOptions().dtype(dtype));
  auto* bytes = static_cast<uint8_t*>(tensor.data_ptr());
  for (size_t i = 0; i < tensor.nbytes(); ++i) {
    bytes[i] = dtype == at::kBool ? Random()() & 1 : Random()();
  }
  return tensor;
}

struct Window {
  const char* name;
  std::vector<int64_t> base;  // sizes of the tensor that it looks at
  std::function<at::Tensor(const at::Tensor&)> take;
};

std::vector<Window> Windows() {
  return {
      {"whole/7x5", {7, 5}, [](const at::Tensor& t) { return t; }},
      {"whole/0-dim", {}, [](const at::Tensor& t) { return t; }},
      {"whole/empty", {3, 0, 2}, [](const at::Tensor& t) { return t; }},
      {"whole/70000", {70000}, [](const at::Tensor& t) { return t; }},
      {"transposed/7x5", {7, 5}, [](const at::Tensor& t) { return t.t(); }},
      {"sliced/5000 of 20000",
       {20000},
       [](const at::Tensor& t) { return t.slice(0, 9000, 14000); }},
      {"stepped/every 4th",
       {4000},
       [](const at::Tensor& t) { return t.slice(0, 1, 4000, 4); }},
      {"expanded/1 to 6x9",
       {1, 9},
       [](const at::Tensor& t) {
         return t.expand({6, 9});
       }},
      {"permuted/2x3x4",
       {2, 3, 4},
       [](const at::Tensor& t) {
         return t.permute({2, 0, 1});
       }},
      {"column/of 64x64",
       {64, 64},
       [](const at::Tensor& t) { return t.select(1, 17); }},
      {"empty slice/at the end",
       {8},
       [](const at::Tensor& t) { return t.slice(0, 8, 8); }},
      {"channels last/2x3x4x5",
       {2, 3, 4, 5},
       [](const at::Tensor& t) {
         return t.contiguous(at::MemoryFormat::ChannelsLast);
       }},
  };
}

void AddStrided(std::vector<MatrixCase>& cases) {
  for (c10::ScalarType dtype : kPlain) {
    for (const Window& window : Windows()) {
      cases.push_back(
          {absl::StrCat(c10::toString(dtype), "/strided/", window.name),
           {window.take(Filled(window.base, dtype))}});
    }
  }
}

void AddAliases(std::vector<MatrixCase>& cases) {
  at::Tensor base = Filled({64, 64}, at::kFloat);
  cases.push_back(
      {"alias/whole, transposed, row", {base, base.t(), base.select(0, 3)}});
  cases.push_back(
      {"alias/two halves", {base.slice(0, 0, 32), base.slice(0, 32, 64)}});
  cases.push_back({"alias/the same twice", {base, base}});
  at::Tensor ints = Filled({16}, at::kInt);
  cases.push_back({"alias/other dtype", {ints, ints.view(at::kFloat)}});
}

void AddFlags(std::vector<MatrixCase>& cases) {
  at::Tensor complex = Filled({4, 3}, at::kComplexFloat);
  cases.push_back({"flags/conj", {complex.conj()}});
  cases.push_back({"flags/neg", {at::_neg_view(Filled({5}, at::kFloat))}});
  cases.push_back({"flags/conj and imag", {at::imag(complex.conj())}});
  cases.push_back(
      {"flags/requires_grad", {Filled({3}, at::kFloat).requires_grad_()}});
}

void AddSparse(std::vector<MatrixCase>& cases) {
  for (c10::ScalarType dtype : {at::kFloat, at::kDouble, at::kLong, at::kHalf,
                                at::kComplexFloat, at::kBool}) {
    const std::string prefix = absl::StrCat(c10::toString(dtype), "/");
    at::Tensor dense = at::eye(6).to(dtype);
    at::Tensor coo = dense.to_sparse();
    cases.push_back({prefix + "coo/coalesced", {coo}});
    at::Tensor indices = at::zeros({2, 3}, at::kLong);
    cases.push_back(
        {prefix + "coo/uncoalesced, hybrid",
         {at::_sparse_coo_tensor_unsafe(
             indices, Filled({3, 4}, dtype), {5, 5, 4},
             at::TensorOptions().dtype(dtype).layout(at::kSparse))}});
    cases.push_back(
        {prefix + "coo/empty", {at::zeros({3, 3}, dtype).to_sparse()}});
    if (dtype == at::kHalf) continue;
    cases.push_back({prefix + "csr", {dense.to_sparse_csr()}});
    cases.push_back({prefix + "csc", {dense.to_sparse_csc()}});
    cases.push_back({prefix + "bsr", {dense.to_sparse_bsr({2, 3})}});
    cases.push_back({prefix + "bsc", {dense.to_sparse_bsc({3, 2})}});
  }
}

void AddQuantised(std::vector<MatrixCase>& cases) {
  at::Tensor real = at::rand({4, 6});
  for (c10::ScalarType dtype : {at::kQInt8, at::kQUInt8, at::kQInt32}) {
    const std::string prefix = absl::StrCat(c10::toString(dtype), "/");
    cases.push_back({prefix + "per tensor",
                     {at::quantize_per_tensor(real, 0.1, 10, dtype)}});
    cases.push_back(
        {prefix + "per channel",
         {at::quantize_per_channel(real, at::rand({6}, at::kDouble) + 0.1,
                                   at::zeros({6}, at::kLong), 1, dtype)}});
  }
}

std::string Sizes(at::IntArrayRef sizes) {
  return absl::StrCat("[", absl::StrJoin(sizes.vec(), ","), "]");
}

// Compares elements byte for byte, whatever the dtype.
std::string DifferentBytes(const at::Tensor& a, const at::Tensor& b) {
  const size_t element = a.element_size();
  const auto* x = static_cast<const uint8_t*>(a.const_data_ptr());
  const auto* y = static_cast<const uint8_t*>(b.const_data_ptr());
  std::vector<int64_t> index(a.dim(), 0);
  for (int64_t n = 0; n < a.numel(); ++n) {
    int64_t in_a = 0, in_b = 0;
    for (int64_t d = 0; d < a.dim(); ++d) {
      in_a += index[d] * a.stride(d);
      in_b += index[d] * b.stride(d);
    }
    if (std::memcmp(x + in_a * element, y + in_b * element, element) != 0) {
      return absl::StrCat("element ", Sizes(index), " differs");
    }
    for (int64_t d = a.dim() - 1; d >= 0 && ++index[d] == a.size(d); --d) {
      index[d] = 0;
    }
  }
  return "";
}

std::string DifferentParts(
    const std::vector<std::pair<at::Tensor, at::Tensor>>& parts) {
  for (size_t i = 0; i < parts.size(); ++i) {
    std::string difference = Difference(parts[i].first, parts[i].second);
    if (!difference.empty()) return absl::StrCat("part ", i, ": ", difference);
  }
  return "";
}

std::string DifferentSparse(const at::Tensor& a, const at::Tensor& b) {
  switch (a.layout()) {
    case at::kSparse:
      if (a.is_coalesced() != b.is_coalesced()) return "coalesced differs";
      return DifferentParts(
          {{a._indices(), b._indices()}, {a._values(), b._values()}});
    case at::kSparseCsr:
    case at::kSparseBsr:
      return DifferentParts({{a.crow_indices(), b.crow_indices()},
                             {a.col_indices(), b.col_indices()},
                             {a.values(), b.values()}});
    default:
      return DifferentParts({{a.ccol_indices(), b.ccol_indices()},
                             {a.row_indices(), b.row_indices()},
                             {a.values(), b.values()}});
  }
}

std::string DifferentQuantiser(const at::Tensor& a, const at::Tensor& b) {
  if (a.qscheme() != b.qscheme()) return "qscheme differs";
  if (a.qscheme() == at::kPerTensorAffine) {
    return a.q_scale() == b.q_scale() && a.q_zero_point() == b.q_zero_point()
               ? ""
               : "scale or zero point differs";
  }
  if (a.q_per_channel_axis() != b.q_per_channel_axis()) return "axis differs";
  return DifferentParts(
      {{a.q_per_channel_scales(), b.q_per_channel_scales()},
       {a.q_per_channel_zero_points(), b.q_per_channel_zero_points()}});
}

// Strides arrive as they were, but for a view that covers less than half of its
// span: that is gathered on its way, and has dense strides then.
bool MayBeGathered(const at::Tensor& tensor) {
  int64_t span = 1;
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    span += (tensor.size(d) - 1) * tensor.stride(d);
  }
  return tensor.numel() * 2 < span;
}

}  // namespace

std::vector<MatrixCase> TensorMatrix() {
  std::vector<MatrixCase> cases;
  AddStrided(cases);
  AddAliases(cases);
  AddFlags(cases);
  AddSparse(cases);
  AddQuantised(cases);
  return cases;
}

std::string Difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type()) {
    return absl::StrCat("dtype ", c10::toString(a.scalar_type()), " became ",
                        c10::toString(b.scalar_type()));
  }
  if (a.layout() != b.layout()) return "layout differs";
  if (a.sizes() != b.sizes()) {
    return absl::StrCat("sizes ", Sizes(a.sizes()), " became ",
                        Sizes(b.sizes()));
  }
  if (a.requires_grad() != b.requires_grad()) return "requires_grad differs";
  if (a.is_conj() != b.is_conj()) return "conj bit differs";
  if (a.is_neg() != b.is_neg()) return "neg bit differs";
  if (a.layout() != at::kStrided) return DifferentSparse(a, b);
  if (a.strides() != b.strides() && !MayBeGathered(a)) {
    return absl::StrCat("strides ", Sizes(a.strides()), " became ",
                        Sizes(b.strides()));
  }
  if (a.is_quantized()) {
    std::string difference = DifferentQuantiser(a, b);
    if (!difference.empty()) return difference;
  }
  return DifferentBytes(a, b);
}

std::vector<std::vector<bool>> Aliasing(
    const std::vector<at::Tensor>& tensors) {
  auto share = [](const at::Tensor& a, const at::Tensor& b) {
    return a.layout() == at::kStrided && b.layout() == at::kStrided &&
           a.storage().unsafeGetStorageImpl() ==
               b.storage().unsafeGetStorageImpl();
  };
  std::vector<std::vector<bool>> result(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (const at::Tensor& other : tensors) {
      result[i].push_back(share(tensors[i], other));
    }
  }
  return result;
}

}  // namespace testing
}  // namespace tensorferry
