#include "tests/testing/tensor_matrix.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <cstring>
#include <functional>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "serialization/dtype.h"
#include "serialization/strided.h"
#include "serialization/torch_types.h"

namespace tensorferry {
namespace testing {
namespace {

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
       {2, 4, 5, 3},
       [](const at::Tensor& t) {
         return t.permute({0, 3, 1, 2});
       }},
  };
}

using Cases = std::vector<MatrixCase>;

// Of each dtype that is not quantised: dtype x view.
void AddStrided(const std::string& prefix, c10::ScalarType dtype,
                Cases& cases) {
  for (const Window& window : Windows()) {
    cases.push_back({absl::StrCat(prefix, "/strided/", window.name),
                     {window.take(Filled(window.base, dtype))}});
  }
}

at::Tensor Indices(std::vector<int64_t> indices) {
  return at::tensor(indices, at::kLong);
}

at::Tensor Coo(c10::ScalarType dtype, at::IntArrayRef values,
               at::IntArrayRef sizes) {
  return at::_sparse_coo_tensor_unsafe(
      at::zeros({2, values[0]}, at::kLong), Filled(values, dtype), sizes,
      at::TensorOptions().dtype(dtype).layout(at::kSparse));
}

at::Tensor Compressed(at::Layout layout, at::IntArrayRef sizes,
                      const at::Tensor& compressed, const at::Tensor& plain,
                      const at::Tensor& values) {
  return at::_sparse_compressed_tensor_unsafe(compressed, plain, values, sizes,
                                              values.options().layout(layout));
}

// Of each dtype that is not quantised: dtype x layout.
void AddSparse(const std::string& prefix, c10::ScalarType dtype, Cases& cases) {
  auto add = [&](const char* name, at::Tensor tensor) {
    cases.push_back({absl::StrCat(prefix, "/", name), {std::move(tensor)}});
  };
  add("coo", Coo(dtype, {3, 4}, {5, 5, 4}));
  at::Tensor starts = Indices({0, 1, 2, 3}), plain = Indices({2, 0, 1});
  at::Tensor values = Filled({3}, dtype);
  add("csr", Compressed(at::kSparseCsr, {3, 3}, starts, plain, values));
  add("csc", Compressed(at::kSparseCsc, {3, 3}, starts, plain, values));
  starts = Indices({0, 1, 2}), plain = Indices({1, 0});
  values = Filled({2, 2, 3}, dtype);
  add("bsr", Compressed(at::kSparseBsr, {4, 6}, starts, plain, values));
  add("bsc", Compressed(at::kSparseBsc, {4, 6}, starts, plain, values));
}

// What sparse layouts have that is not a matter of dtypes.
void AddIndices(Cases& cases) {
  at::Tensor coalesced = Coo(at::kFloat, {1}, {3, 3});
  coalesced._coalesced_(true);
  cases.push_back({"coo/coalesced", {coalesced}});
  cases.push_back({"coo/empty", {Coo(at::kFloat, {0}, {3, 3})}});
  at::Tensor starts = Indices({0, 1, 2, 3}), plain = Indices({2, 0, 1});
  cases.push_back({"csr/int32 indices",
                   {Compressed(at::kSparseCsr, {3, 3}, starts.to(at::kInt),
                               plain.to(at::kInt), Filled({3}, at::kFloat))}});
  cases.push_back(
      {"csr/batched",
       {Compressed(at::kSparseCsr, {2, 3, 3}, starts.repeat({2, 1}),
                   plain.repeat({2, 1}), Filled({2, 3}, at::kFloat))}});
}

// Of each quantised dtype: scheme x view.
void AddQuantised(const std::string& prefix, c10::ScalarType dtype,
                  Cases& cases) {
  at::Tensor real = at::rand({4, 6});
  auto add = [&](const char* name, at::Tensor tensor) {
    cases.push_back({absl::StrCat(prefix, "/", name), {std::move(tensor)}});
  };
  add("per channel, floating",
      at::quantize_per_channel(real, at::rand({4}) + 0.1, at::rand({4}), 0,
                               dtype == at::kQInt8 ? at::kQUInt8 : dtype));
  if (InfoOf(*DtypeOf(dtype)).per_byte > 1) return;
  at::Tensor tensor = at::quantize_per_tensor(real, 0.1, 10, dtype);
  add("per tensor", tensor);
  add("per tensor/transposed", tensor.t());
  add("per tensor/sliced", tensor.slice(0, 1, 3));
  add("per tensor/column", tensor.select(1, 2));
  add("per tensor/expanded", tensor.slice(0, 0, 1).expand({5, 6}));
  add("per channel",  // libtorch makes no views of these
      at::quantize_per_channel(real, at::rand({6}, at::kDouble) + 0.1,
                               at::arange(6), 1, dtype));
  cases.push_back({prefix + "/per tensor/alias", {tensor, tensor.t()}});
}

void AddAliases(Cases& cases) {
  at::Tensor base = Filled({64, 64}, at::kFloat);
  cases.push_back(
      {"alias/whole, transposed, row", {base, base.t(), base.select(0, 3)}});
  cases.push_back(
      {"alias/two halves", {base.slice(0, 0, 32), base.slice(0, 32, 64)}});
  cases.push_back({"alias/the same twice", {base, base}});
  cases.push_back(
      {"alias/columns", {base.slice(1, 0, 9), base.slice(1, 9, 64)}});
  at::Tensor ints = Filled({16}, at::kInt);
  cases.push_back({"alias/other dtype", {ints, ints.view(at::kFloat)}});
}

void AddFlags(Cases& cases) {
  at::Tensor complex = Filled({4, 3}, at::kComplexFloat);
  cases.push_back({"flags/conj", {complex.conj()}});
  cases.push_back({"flags/neg", {at::_neg_view(Filled({5}, at::kFloat))}});
  cases.push_back({"flags/conj and imag", {at::imag(complex.conj())}});
  for (const at::Tensor& tensor :
       {Filled({3}, at::kFloat), Coo(at::kFloat, {3}, {4, 4}),
        at::eye(3).to_sparse_csr()}) {
    cases.push_back(
        {absl::StrCat("flags/requires_grad, ", c10::str(tensor.layout())),
         {tensor.detach().requires_grad_()}});
  }
}

std::string Sizes(at::IntArrayRef sizes) {
  return absl::StrCat("[", absl::StrJoin(sizes.vec(), ","), "]");
}

// Compares elements byte for byte, whatever the dtype.
std::string DifferentBytes(const at::Tensor& a, const at::Tensor& b) {
  const DtypeInfo& dtype = InfoOf(*DtypeOf(a.scalar_type()));
  if (dtype.per_byte > 1) {  // always contiguous
    uint64_t end = 0;
    EndOf(dtype, 0, a.sizes(), {}, &end);
    return std::memcmp(a.const_data_ptr(), b.const_data_ptr(), end) == 0
               ? ""
               : "packed elements differ";
  }
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
// span: that is gathered on its way, and has no holes then.
bool IsGathered(const at::Tensor& sent, const at::Tensor& got) {
  int64_t span = 1, covered = 1;
  for (int64_t d = 0; d < sent.dim(); ++d) {
    if (sent.stride(d) == 0) continue;
    span += (sent.size(d) - 1) * sent.stride(d);
    covered *= sent.size(d);
  }
  return covered * 2 < span && HasNoHoles(got.sizes(), got.strides());
}

}  // namespace

std::vector<MatrixCase> TensorMatrix() {
  Cases cases;
  for (uint8_t code = 1; FindDtype(code) != nullptr; ++code) {
    const std::string name(FindDtype(code)->name);
    c10::ScalarType dtype = ScalarTypeOf(Dtype{code});
    if (FindDtype(code)->type_class == DtypeInfo::kQuantised) {
      AddQuantised(name, dtype, cases);
    } else {
      AddStrided(name, dtype, cases);
      AddSparse(name, dtype, cases);
    }
  }
  AddIndices(cases);
  AddAliases(cases);
  AddFlags(cases);
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
  if (a.strides() != b.strides() && !IsGathered(a, b)) {
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
