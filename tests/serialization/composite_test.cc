#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/status_macros.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tests/serialization/round_trip.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MessageOf;
using testing::NamedMessageOf;
using testing::RoundTrip;
using testing::StatusIs;

at::Tensor Sent(const at::Tensor& tensor) {
  auto message = RoundTrip(MessageOf({tensor}));
  EXPECT_THAT(message, testing::IsOk());
  return message.ok() ? message->tensors[0] : at::Tensor();
}

at::Tensor Matrix() {
  at::Tensor matrix = at::zeros({8, 12});
  matrix[1][2] = 3;
  matrix[1][5] = -1;
  matrix[6][0] = 7;
  return matrix;
}

void ExpectSameSparse(const at::Tensor& got, const at::Tensor& want) {
  ASSERT_TRUE(got.defined());
  EXPECT_EQ(got.layout(), want.layout());
  EXPECT_EQ(got.scalar_type(), want.scalar_type());
  EXPECT_EQ(got.sizes(), want.sizes());
  EXPECT_EQ(got.dense_dim(), want.dense_dim());
  EXPECT_EQ(got.requires_grad(), want.requires_grad());
  EXPECT_TRUE(at::equal(got.detach().to_dense(), want.detach().to_dense()));
}

TEST(SparseTest, CooArrivesWithItsCoalescedFlag) {
  at::Tensor coalesced = Matrix().to_sparse();
  ASSERT_TRUE(coalesced.is_coalesced());
  ExpectSameSparse(Sent(coalesced), coalesced);
  EXPECT_TRUE(Sent(coalesced).is_coalesced());

  at::Tensor indices = at::tensor({1, 1, 0, 0}, at::kLong).view({2, 2});
  at::Tensor twice = at::sparse_coo_tensor(indices, at::ones({2}), {3, 3});
  ASSERT_FALSE(twice.is_coalesced());
  at::Tensor got = Sent(twice);
  ExpectSameSparse(got, twice);
  EXPECT_FALSE(got.is_coalesced());
  EXPECT_EQ(got._nnz(), 2);
}

TEST(SparseTest, CooWithDenseDimensionsAndEmptyOnesArrive) {
  at::Tensor hybrid = at::randn({4, 3, 2}).to_sparse(1);
  ExpectSameSparse(Sent(hybrid), hybrid);
  at::Tensor empty = at::zeros({4, 0, 2}).to_sparse();
  ExpectSameSparse(Sent(empty), empty);
  at::Tensor none = at::zeros({4, 5}).to_sparse();
  ExpectSameSparse(Sent(none), none);
}

TEST(SparseTest, CompressedLayoutsArrive) {
  for (const at::Tensor& tensor :
       {Matrix().to_sparse_csr(), Matrix().to_sparse_csc(),
        Matrix().to_sparse_bsr({2, 3}), Matrix().to_sparse_bsc({4, 2})}) {
    ExpectSameSparse(Sent(tensor), tensor);
  }
}

TEST(SparseTest, Int32IndicesAndBatchesArrive) {
  at::Tensor rows = at::tensor({0, 1, 2}, at::kInt);
  at::Tensor columns = at::tensor({1, 0}, at::kInt);
  at::Tensor csr = at::sparse_csr_tensor(rows, columns, at::ones({2}), {2, 2},
                                         at::dtype(at::kFloat));
  at::Tensor got = Sent(csr);
  ExpectSameSparse(got, csr);
  EXPECT_EQ(got.crow_indices().scalar_type(), at::kInt);

  at::Tensor batch = at::stack({at::eye(4), at::eye(4) * 2}).to_sparse_csr();
  ExpectSameSparse(Sent(batch), batch);
}

TEST(SparseTest, RequiresGradArrives) {
  at::Tensor tensor = Matrix().to_sparse().requires_grad_(true);
  ExpectSameSparse(Sent(tensor), tensor);
}

TEST(SparseTest, ConjugatedOnesArriveConjugated) {
  at::Tensor complex = at::complex(Matrix(), Matrix());
  at::Tensor coo = complex.to_sparse().conj();
  EXPECT_TRUE(at::equal(Sent(coo).to_dense(), complex.conj().resolve_conj()));
  at::Tensor csr = complex.to_sparse_csr().conj();
  EXPECT_TRUE(at::equal(Sent(csr).to_dense(), complex.conj().resolve_conj()));
}

TEST(SparseTest, ValuesThatADenseTensorSharesAliasAgain) {
  at::Tensor values = at::ones({3});
  at::Tensor indices = at::tensor({0, 1, 2, 0, 1, 2}, at::kLong).view({2, 3});
  at::Tensor sparse = at::sparse_coo_tensor(indices, values, {3, 3});
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage got,
                             RoundTrip(MessageOf({values, sparse})));
  got.tensors[0].fill_(5);
  EXPECT_EQ(got.tensors[1]._values().sum().item<float>(), 15);
}

// Sends `tensor`, changes the bytes of its storage number `storage` on the
// way, and returns what Deserialize says.
absl::Status WithIndices(const at::Tensor& tensor, int storage,
                         std::vector<int64_t> lies) {
  FERRY_ASSIGN_OR_RETURN(WriteBuffers sent,
                         Serialize(NamedMessageOf({tensor}), {}));
  FERRY_ASSIGN_OR_RETURN(ReadBuffers received, Allocate(sent.manifest(), {}));
  testing::CarryRegions(sent, received);
  const Manifest& manifest = received.manifest();
  EXPECT_EQ(manifest.storage_nbytes(storage), lies.size() * 8);
  std::memcpy(received.regions()[manifest.storage_buffer(storage)].data +
                  manifest.storage_at(storage),
              lies.data(), lies.size() * 8);
  return Deserialize(std::move(received)).status();
}

TEST(SparseTest, IndicesThatALyingPeerSentAreRefused) {
  auto names_it = StatusIs(absl::StatusCode::kInvalidArgument,
                           HasSubstr("tensor 0 \"a0\""));
  at::Tensor coo = Matrix().to_sparse();  // rows 1 1 6, columns 2 5 0
  EXPECT_THAT(WithIndices(coo, 1, {1, 1, 6, 2, 5, 0}), testing::IsOk());
  EXPECT_THAT(WithIndices(coo, 1, {1, 1, 8, 2, 5, 0}), names_it);
  EXPECT_THAT(WithIndices(coo, 1, {1, 1, 6, 2, -5, 0}), names_it);
  EXPECT_THAT(WithIndices(coo, 1, {6, 1, 1, 0, 2, 5}), names_it);  // coalesced

  at::Tensor csr = Matrix().to_sparse_csr();
  std::vector<int64_t> rows = {0, 0, 2, 2, 2, 2, 2, 3, 3};
  EXPECT_THAT(WithIndices(csr, 1, rows), testing::IsOk());
  rows[3] = 9;
  EXPECT_THAT(WithIndices(csr, 1, rows), names_it);
  EXPECT_THAT(WithIndices(csr, 2, {2, 5, 12}), names_it);
}

TEST(QuantisedTest, PerTensorArrives) {
  at::Tensor data = at::arange(-4, 4, at::kFloat).view({2, 4});
  for (at::ScalarType type : {at::kQInt8, at::kQUInt8, at::kQInt32}) {
    at::Tensor tensor = at::quantize_per_tensor(data, 0.5, 10, type);
    at::Tensor got = Sent(tensor.t());
    EXPECT_EQ(got.scalar_type(), type);
    EXPECT_EQ(got.qscheme(), c10::kPerTensorAffine);
    EXPECT_EQ(got.q_scale(), 0.5);
    EXPECT_EQ(got.q_zero_point(), 10);
    EXPECT_EQ(got.strides(), tensor.t().strides());
    EXPECT_TRUE(at::equal(got.int_repr(), tensor.t().int_repr()));
  }
}

TEST(QuantisedTest, PerChannelArrives) {
  at::Tensor data = at::randn({3, 4});
  at::Tensor scales = at::tensor({0.1, 0.2, 0.3, 0.4}, at::kDouble);
  at::Tensor zero_points = at::tensor({1, 2, 3, 4}, at::kLong);
  at::Tensor tensor =
      at::quantize_per_channel(data, scales, zero_points, 1, at::kQInt8);
  at::Tensor got = Sent(tensor);
  EXPECT_EQ(got.qscheme(), c10::kPerChannelAffine);
  EXPECT_EQ(got.q_per_channel_axis(), 1);
  EXPECT_TRUE(at::equal(got.q_per_channel_scales(), scales));
  EXPECT_TRUE(at::equal(got.q_per_channel_zero_points(), zero_points));
  EXPECT_TRUE(at::equal(got.dequantize(), tensor.dequantize()));
}

TEST(QuantisedTest, ATensorWithoutAScaleForEachChannelIsRefused) {
  at::Tensor tensor =
      at::quantize_per_channel(at::randn({3, 4}), at::ones({4}, at::kDouble),
                               at::zeros({4}, at::kLong), 1, at::kQInt8);
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous({3, 2});
  EXPECT_THAT(Serialize(NamedMessageOf({tensor}), {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("a0"), HasSubstr("2 channels"),
                             HasSubstr("4 scales"))));
}

TEST(QuantisedTest, FloatingParametersAndPackedTypesArrive) {
  at::Tensor data = at::randn({3, 5});
  at::Tensor scales = at::tensor({0.1, 0.2, 0.3}, at::kFloat);
  at::Tensor zero_points = at::tensor({0.5, 1.5, 2.5}, at::kFloat);
  for (at::ScalarType type : {at::kQUInt8, at::kQUInt4x2, at::kQUInt2x4}) {
    at::Tensor tensor =
        at::quantize_per_channel(data, scales, zero_points, 0, type);
    at::Tensor got = Sent(tensor);
    EXPECT_EQ(got.scalar_type(), type);
    EXPECT_EQ(got.qscheme(), c10::kPerChannelAffineFloatQParams);
    EXPECT_TRUE(at::equal(got.q_per_channel_scales(), scales));
    EXPECT_EQ(std::memcmp(got.data_ptr(), tensor.data_ptr(),
                          tensor.storage().nbytes()),
              0)
        << type;
  }
}

}  // namespace
}  // namespace tensorferry
