#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "absl/strings/str_cat.h"
#include "serialization/allocate.h"
#include "serialization/deserialize.h"
#include "serialization/serialize.h"
#include "tests/serialization/round_trip.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MessageOf;
using testing::NamedMessageOf;
using testing::RoundTrip;
using testing::StatusIs;

at::Tensor Range(int64_t n) { return at::arange(n, at::kFloat); }

std::vector<at::Tensor> Sent(std::vector<at::Tensor> tensors,
                             SerializeOptions options = {}) {
  auto message = RoundTrip(MessageOf(std::move(tensors)), options);
  EXPECT_THAT(message, testing::IsOk());
  return message.ok() ? message->tensors : std::vector<at::Tensor>();
}

at::Tensor SentAlone(const at::Tensor& tensor) {
  auto tensors = Sent({tensor});
  return tensors.size() == 1 ? tensors[0] : at::Tensor();
}

uint64_t BytesOf(std::vector<at::Tensor> tensors) {
  auto sent = Serialize(MessageOf(std::move(tensors)), {});
  EXPECT_THAT(sent, testing::IsOk());
  return sent.ok() ? sent->nbytes() : 0;
}

void ExpectSame(const at::Tensor& got, const at::Tensor& want) {
  ASSERT_TRUE(got.defined());
  EXPECT_EQ(got.scalar_type(), want.scalar_type());
  EXPECT_EQ(got.sizes(), want.sizes());
  EXPECT_EQ(got.is_conj(), want.is_conj());
  EXPECT_EQ(got.is_neg(), want.is_neg());
  EXPECT_EQ(got.requires_grad(), want.requires_grad());
  if (at::isFloatingType(want.scalar_type()) && want.element_size() == 1) {
    EXPECT_TRUE(at::equal(got.view(at::kByte), want.view(at::kByte)));
  } else {
    EXPECT_TRUE(at::equal(got.detach(), want.detach()));
  }
}

TEST(DenseTest, ArrivesWithTypeIdPayloadAndNames) {
  TensorMessage message;
  message.type = 7;
  message.id = -12;
  message.payload = std::string("a\0b", 3);
  message.tensors = {Range(3), Range(5)};
  message.names = {"x", "y"};
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage got, RoundTrip(message));
  EXPECT_EQ(got.type, 7u);
  EXPECT_EQ(got.id, -12);
  EXPECT_EQ(got.payload, std::string("a\0b", 3));
  EXPECT_THAT(got.names, ElementsAre("x", "y"));
  ExpectSame(got.tensors[0], Range(3));
  ExpectSame(got.tensors[1], Range(5));
}

TEST(DenseTest, AnEmptyMessageArrives) {
  FERRY_ASSERT_OK_AND_ASSIGN(TensorMessage got, RoundTrip({}));
  EXPECT_TRUE(got.tensors.empty());
  EXPECT_TRUE(got.payload.empty());
}

TEST(DenseTest, EveryDtypeArrives) {
  at::Tensor bytes = at::arange(0, 16 * 12, at::kByte);
  for (int type = 0; type < static_cast<int>(at::ScalarType::NumOptions);
       ++type) {
    auto scalar = static_cast<at::ScalarType>(type);
    if (at::isQIntType(scalar) || scalar == at::ScalarType::Undefined) continue;
    at::Tensor sent = at::empty({4, 3}, at::TensorOptions().dtype(scalar));
    std::memcpy(sent.data_ptr(), bytes.data_ptr(), sent.nbytes());
    at::Tensor got = SentAlone(sent);
    ASSERT_TRUE(got.defined()) << scalar;
    EXPECT_EQ(got.scalar_type(), scalar);
    EXPECT_EQ(got.sizes(), sent.sizes());
    EXPECT_EQ(std::memcmp(got.data_ptr(), sent.data_ptr(), sent.nbytes()), 0)
        << scalar;
  }
}

TEST(DenseTest, ScalarsAndEmptyTensorsArrive) {
  ExpectSame(SentAlone(at::scalar_tensor(3.5)), at::scalar_tensor(3.5));
  ExpectSame(SentAlone(at::empty({0})), at::empty({0}));
  ExpectSame(SentAlone(at::empty({3, 0, 2})), at::empty({3, 0, 2}));
  ExpectSame(SentAlone(Range(4).slice(0, 2, 2)), at::empty({0}));
}

TEST(DenseTest, StridesArriveAsTheyWere) {
  at::Tensor transposed = Range(12).view({3, 4}).t();
  at::Tensor got = SentAlone(transposed);
  ExpectSame(got, transposed);
  EXPECT_EQ(got.strides(), transposed.strides());

  at::Tensor odd = at::empty_strided({1, 3, 1}, {7, 1, 9});
  odd.fill_(2);
  EXPECT_EQ(SentAlone(odd).strides(), odd.strides());
}

TEST(DenseTest, ExpandedTensorsAreSentOnce) {
  at::Tensor expanded = Range(3).view({3, 1}).expand({3, 100000});
  EXPECT_EQ(BytesOf({expanded}), 12u);
  at::Tensor got = SentAlone(expanded);
  ExpectSame(got, expanded);
  EXPECT_THAT(got.strides(), ElementsAre(1, 0));
}

TEST(DenseTest, OnlyTheSpanOfAViewIsSent) {
  at::Tensor part = Range(1000).slice(0, 100, 110);
  EXPECT_EQ(BytesOf({part}), 40u);
  at::Tensor got = SentAlone(part);
  ExpectSame(got, part);
  EXPECT_EQ(got.storage_offset(), 0);
  EXPECT_EQ(got.storage().nbytes(), 40u);
}

TEST(DenseTest, AViewOfLessThanHalfOfItsSpanIsGathered) {
  at::Tensor column = Range(1000).view({10, 100}).select(1, 7);
  EXPECT_EQ(BytesOf({column}), 40u);
  at::Tensor got = SentAlone(column);
  ExpectSame(got, column);
  EXPECT_TRUE(got.is_contiguous());
}

TEST(DenseTest, GatheringKeepsTheOrderOfDimensionsAndExpandedOnes) {
  at::Tensor view = Range(4000)
                        .view({10, 20, 20})
                        .slice(2, 0, 20, 5)
                        .permute({2, 0, 1})
                        .unsqueeze(1)
                        .expand({4, 3, 10, 20});
  EXPECT_EQ(BytesOf({view}), 4u * 4 * 10 * 20);
  at::Tensor got = SentAlone(view);
  ExpectSame(got, view);
  EXPECT_THAT(got.strides(), ElementsAre(1, 0, 80, 4));
}

TEST(DenseTest, GatheringKeepsConjugateBits) {
  at::Tensor base = at::randn({64, 8}, at::kComplexFloat);
  at::Tensor column = base.conj().select(1, 3);
  at::Tensor got = SentAlone(column);
  ExpectSame(got, column);
  EXPECT_TRUE(got.is_conj());
}

TEST(DenseTest, AViewOfHalfOfItsSpanIsSentAsItLies) {
  at::Tensor half = Range(20).slice(0, 0, 20, 2);
  EXPECT_EQ(BytesOf({half}), 76u);
  at::Tensor got = SentAlone(half);
  ExpectSame(got, half);
  EXPECT_THAT(got.strides(), ElementsAre(2));
}

TEST(DenseTest, AliasesAliasAgain) {
  at::Tensor whole = Range(1000);
  at::Tensor column = whole.view({10, 100}).select(1, 7);
  at::Tensor tail = whole.slice(0, 990);
  EXPECT_EQ(BytesOf({column, whole, tail}), 4000u);
  auto got = Sent({column, whole, tail});
  ASSERT_EQ(got.size(), 3u);
  got[1].fill_(-1);
  EXPECT_TRUE(at::equal(got[0], at::full({10}, -1.0)));
  EXPECT_TRUE(at::equal(got[2], at::full({10}, -1.0)));
}

TEST(DenseTest, OffsetsOfAliasesAreRelativeToWhatIsSent) {
  at::Tensor base = Range(1000);
  at::Tensor a = base.slice(0, 500, 510), b = base.slice(0, 505, 520);
  EXPECT_EQ(BytesOf({a, b}), 80u);
  auto got = Sent({a, b});
  ExpectSame(got[0], a);
  ExpectSame(got[1], b);
  got[1][0] = 77;
  EXPECT_EQ(got[0][5].item<float>(), 77);
}

TEST(DenseTest, AliasesOfSeveralDtypesKeepTheirPlaces) {
  at::Tensor bytes = at::arange(0, 64, at::kByte);
  at::Tensor words = bytes.view(at::kInt);
  at::Tensor some_bytes = bytes.slice(0, 13, 20);
  at::Tensor some_words = words.slice(0, 4, 6);
  auto got = Sent({some_bytes, some_words});
  ExpectSame(got[0], some_bytes);
  ExpectSame(got[1], some_words);
  got[1].zero_();  // bytes 16 .. 23
  EXPECT_EQ(got[0][2].item<int>(), 15);
  EXPECT_EQ(got[0][3].item<int>(), 0);
}

TEST(DenseTest, TheSameTensorTwiceIsSentOnce) {
  at::Tensor tensor = Range(100);
  EXPECT_EQ(BytesOf({tensor, tensor}), 400u);
  auto got = Sent({tensor, tensor});
  EXPECT_EQ(got[0].data_ptr(), got[1].data_ptr());
}

TEST(DenseTest, ConjugateAndNegativeBitsArrive) {
  at::Tensor z = at::randn({5}, at::kComplexDouble);
  ExpectSame(SentAlone(z.conj()), z.conj());
  EXPECT_TRUE(SentAlone(z.conj()).is_conj());
  at::Tensor negative = at::imag(z.conj());
  ASSERT_TRUE(negative.is_neg());
  ExpectSame(SentAlone(negative), negative);
  EXPECT_TRUE(SentAlone(negative).is_neg());
}

TEST(DenseTest, RequiresGradArrivesAndTheGraphDoesNot) {
  at::Tensor leaf = Range(3).set_requires_grad(true);
  ExpectSame(SentAlone(leaf), leaf);
  at::Tensor got = SentAlone(leaf * 2);
  EXPECT_TRUE(got.requires_grad());
  EXPECT_TRUE(got.is_leaf());
}

TEST(DenseTest, SmallStoragesTravelInOneBufferAndArriveApart) {
  std::vector<at::Tensor> tensors;
  for (int i = 1; i <= 50; ++i) tensors.push_back(at::full({i}, i));
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(MessageOf(tensors), {}));
  EXPECT_EQ(sent.regions().size(), 1u);
  auto got = Sent(tensors);
  for (int i = 0; i < 50; ++i) {
    ExpectSame(got[i], tensors[i]);
    EXPECT_EQ(got[i].storage().nbytes(), tensors[i].nbytes());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got[i].data_ptr()) % 64, 0u);
  }
  // Each keeps the region alive by itself.
  at::Tensor survivor = got[20];
  got.clear();
  ExpectSame(survivor, tensors[20]);
  survivor.resize_({1000});
  EXPECT_EQ(survivor[20].item<float>(), 21);
}

TEST(DenseTest, NothingOfTheHeapIsSentBetweenPackedStorages) {
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(MessageOf({at::full({1}, 1, at::kByte),
                                                  at::full({1}, 2, at::kByte)}),
                                       {}));
  ASSERT_EQ(sent.regions().size(), 1u);
  const std::byte* data = sent.regions()[0].data;
  ASSERT_EQ(sent.regions()[0].nbytes, 65u);
  for (int i = 1; i < 64; ++i) EXPECT_EQ(data[i], std::byte{0});
}

TEST(DenseTest, LargeStoragesAreNotCopied) {
  at::Tensor large = Range(1 << 16);
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(MessageOf({large}), {}));
  EXPECT_EQ(static_cast<void*>(sent.regions()[0].data), large.data_ptr());
}

TEST(DenseTest, PacksAreBounded) {
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 300; ++i) tensors.push_back(at::zeros({1 << 14}));
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent,
                             Serialize(MessageOf(tensors), {}));
  EXPECT_GT(sent.regions().size(), 3u);
  EXPECT_LT(sent.regions().size(), 10u);
  EXPECT_EQ(Sent(tensors).size(), 300u);
}

TEST(DenseTest, MemoryThatNobodyOwnsIsCopiedOnce) {
  std::vector<float> memory(1 << 16);
  std::iota(memory.begin(), memory.end(), 0);
  at::Tensor blob = at::from_blob(memory.data(), {1 << 16}, at::kFloat);
  FERRY_ASSERT_OK_AND_ASSIGN(
      WriteBuffers sent, Serialize(MessageOf({blob, blob.slice(0, 10)}), {}));
  ASSERT_EQ(sent.regions().size(), 1u);
  EXPECT_NE(static_cast<void*>(sent.regions()[0].data), memory.data());
  memory.assign(memory.size(), -1);
  EXPECT_EQ(reinterpret_cast<float*>(sent.regions()[0].data)[100], 100);
}

TEST(DenseTest, ABlobWithADeleterIsNotCopiedAndHeldUntilSent) {
  std::vector<float> memory(1 << 16);
  bool deleted = false;
  at::Tensor blob = at::from_blob(
      memory.data(), {1 << 16}, [&](void*) { deleted = true; }, at::kFloat);
  {
    auto sent = Serialize(MessageOf({std::move(blob)}), {});
    ASSERT_THAT(sent, testing::IsOk());
    EXPECT_EQ(static_cast<void*>(sent->regions()[0].data), memory.data());
    blob = at::Tensor();
    WriteBuffers moved = *std::move(sent);
    EXPECT_FALSE(deleted);
  }
  EXPECT_TRUE(deleted);
}

TEST(DenseTest, UnsendableTensorsAreNamed) {
  auto send = [](at::Tensor bad) {
    return Serialize(NamedMessageOf({Range(2), std::move(bad)}), {});
  };
  auto names = [](absl::string_view why) {
    return StatusIs(
        absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr("tensor 1 \"a1\""), HasSubstr(std::string(why))));
  };
  EXPECT_THAT(send(at::Tensor()), names("undefined"));
  EXPECT_THAT(send(at::empty({2}, at::kMeta)), names("meta"));
  EXPECT_THAT(send(at::_nested_tensor_from_tensor_list({Range(2), Range(3)})),
              names("nested"));
  EXPECT_THAT(send(Range(4).to_mkldnn()), names("MKL-DNN"));
  EXPECT_THAT(send(at::_efficientzerotensor({3})), names("no storage"));
}

// As FSDP frees a parameter: its sizes stay, its memory goes.
TEST(DenseTest, TensorsThatDoNotLieInTheirStorageAreNamed) {
  auto refused = [](absl::string_view why) {
    return StatusIs(
        absl::StatusCode::kInvalidArgument,
        AllOf(HasSubstr("tensor 1 \"a1\""), HasSubstr(std::string(why))));
  };
  for (int64_t left : {0, 4096}) {
    at::Tensor whole = Range(100000),
               stepped = Range(100000).slice(0, 0, 100000, 4);
    for (const at::Tensor& tensor : {whole, stepped}) {
      tensor.storage().unsafeGetStorageImpl()->set_nbytes(left);
      EXPECT_THAT(Serialize(NamedMessageOf({Range(2), tensor}), {}),
                  refused(absl::StrCat("storage of ", left, " bytes")));
    }
  }
  at::Tensor sparse = at::eye(3).to_sparse();
  sparse._values().storage().unsafeGetStorageImpl()->set_nbytes(0);
  EXPECT_THAT(Serialize(NamedMessageOf({Range(2), sparse}), {}),
              refused("storage of 0 bytes"));
}

// What wrappers of other tensors (functionalisation, subclasses) look like.
TEST(DenseTest, AStorageWithoutMemoryIsNamed) {
  for (int64_t elements : {4, 1 << 20}) {
    at::Tensor wrapper = at::empty({0});
    wrapper.unsafeGetTensorImpl()->set_storage_keep_dtype(c10::Storage(
        c10::Storage::use_byte_size_t(), elements * 4,
        c10::DataPtr(nullptr, c10::Device(c10::kCPU)), nullptr, false));
    wrapper.unsafeGetTensorImpl()->set_sizes_contiguous({elements});
    EXPECT_THAT(
        Serialize(NamedMessageOf({wrapper}), {}),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("\"a0\""), HasSubstr("without memory"))));
  }
}

TEST(DenseTest, NamesMustBeThereForAllAndUnique) {
  TensorMessage message = MessageOf({Range(1), Range(2)});
  message.names = {"one"};
  EXPECT_THAT(Serialize(message, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("1 names for 2 tensors")));
  message.names = {"one", "one"};
  EXPECT_THAT(Serialize(message, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("same name"), HasSubstr("one"))));
  message.names = {"one", ""};
  EXPECT_THAT(
      Serialize(message, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("empty name")));
}

TEST(DenseTest, LimitsAreNamed) {
  SerializeOptions options;
  options.limits.tensors = 1;
  EXPECT_THAT(Serialize(MessageOf({Range(1), Range(2)}), options),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("limit tensors")));
  options = {};
  options.limits.message_bytes = 100;
  EXPECT_THAT(Serialize(MessageOf({Range(30)}), options),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("limit message_bytes")));
  options = {};
  options.limits.payload_bytes = 3;
  TensorMessage message;
  message.payload = "long";
  EXPECT_THAT(Serialize(message, options),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("limit payload_bytes")));
  FERRY_ASSERT_OK_AND_ASSIGN(WriteBuffers sent, Serialize(message, {}));
  AllocateOptions receive;
  receive.limits = options.limits;
  EXPECT_THAT(Allocate(sent.manifest(), receive),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("limit payload_bytes")));
  options = {};
  options.limits.rank = 2;
  EXPECT_THAT(
      Serialize(MessageOf({at::zeros({1, 1, 1})}), options),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("limit rank")));
  options = {};
  options.limits.name_bytes = 1;
  EXPECT_THAT(Serialize(NamedMessageOf({Range(1)}), options),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("limit name_bytes")));
}

}  // namespace
}  // namespace tensorferry
