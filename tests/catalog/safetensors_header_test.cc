#include "catalog/safetensors_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

// A tensor's entry: F32 of `numbers` elements at `begin`.
std::string Floats(const std::string& name, int numbers, int begin) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"F32\",\"shape\":[", numbers,
                      "],\"data_offsets\":[", begin, ",", begin + 4 * numbers,
                      "]}");
}

TEST(SafetensorsHeaderTest, ReadsTensorsAndMetadata) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      SafetensorsHeader header,
      ParseSafetensorsHeader(
          "{\"__metadata__\":{\"format\":\"pt\"}," + Floats("a", 2, 0) + "}   ",
          8));
  EXPECT_THAT(header.metadata, ElementsAre(Pair("format", "pt")));
  ASSERT_EQ(header.entries.size(), 1u);
  EXPECT_EQ(header.entries[0].name, "a");
  EXPECT_EQ(header.entries[0].dtype, c10::kFloat);
  EXPECT_THAT(header.entries[0].shape, ElementsAre(2));
  EXPECT_EQ(header.data_bytes(), 8u);
}

TEST(SafetensorsHeaderTest, OrdersTensorsByTheirBytesNotByTheirKeys) {
  FERRY_ASSERT_OK_AND_ASSIGN(
      SafetensorsHeader header,
      ParseSafetensorsHeader(
          absl::StrCat("{", Floats("late", 1, 4), ",", Floats("early", 1, 0),
                       ",", Floats("empty", 0, 4), "}"),
          8));
  ASSERT_EQ(header.entries.size(), 3u);
  EXPECT_EQ(header.entries[0].name, "early");
  EXPECT_EQ(header.entries[1].name, "empty");
  EXPECT_EQ(header.entries[2].name, "late");
}

TEST(SafetensorsHeaderTest, AcceptsAFileWithoutTensors) {
  FERRY_ASSERT_OK_AND_ASSIGN(SafetensorsHeader header,
                             ParseSafetensorsHeader("{}", 0));
  EXPECT_THAT(header.entries, IsEmpty());
}

TEST(SafetensorsHeaderTest, ReadsWhatItFormats) {
  SafetensorsHeader header;
  header.metadata = {{"quote\"", "line\n"}};
  header.entries = {{"\xc3\xa4", c10::kBFloat16, {2, 3}, 0, 12},
                    {"scalar", c10::kBool, {}, 12, 13},
                    {"none", c10::kDouble, {0, 7}, 13, 13}};
  const std::string text = FormatSafetensorsHeader(header);
  EXPECT_EQ(text.size() % 8, 0u);
  FERRY_ASSERT_OK_AND_ASSIGN(SafetensorsHeader read,
                             ParseSafetensorsHeader(text, 13));
  EXPECT_EQ(read.metadata, header.metadata);
  ASSERT_EQ(read.entries.size(), 3u);
  EXPECT_EQ(read.entries[0].name, "\xc3\xa4");
  EXPECT_EQ(read.entries[0].dtype, c10::kBFloat16);
  EXPECT_THAT(read.entries[1].shape, IsEmpty());
  EXPECT_THAT(read.entries[2].shape, ElementsAre(0, 7));
}

TEST(SafetensorsHeaderTest, NamesEveryDtypeThatItReads) {
  for (const char* name :
       {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ",
        "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "C64",
        "F64", "I64", "U64"}) {
    FERRY_ASSERT_OK_AND_ASSIGN(
        SafetensorsHeader header,
        ParseSafetensorsHeader(
            absl::StrCat("{\"a\":{\"dtype\":\"", name,
                         "\",\"shape\":[0],\"data_offsets\":[0,0]}}"),
            0));
    EXPECT_EQ(SafetensorsDtype(header.entries[0].dtype), name);
  }
  EXPECT_EQ(SafetensorsDtype(c10::kQInt8), "");
  EXPECT_EQ(SafetensorsDtype(c10::kComplexDouble), "");
}

struct Malformed {
  const char* claim;
  std::string header;
  uint64_t data_bytes;
  std::vector<std::string> says;
};

class MalformedHeaderTest : public ::testing::TestWithParam<Malformed> {};

TEST_P(MalformedHeaderTest, IsAnInvalidArgumentThatSaysWhatAndWhere) {
  const Malformed& bad = GetParam();
  const absl::Status status =
      ParseSafetensorsHeader(bad.header, bad.data_bytes).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument));
  for (const std::string& text : bad.says) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  }
}

std::string Tensor(const std::string& fields) {
  return absl::StrCat("{\"w\":{", fields, "}}");
}

INSTANTIATE_TEST_SUITE_P(
    All, MalformedHeaderTest,
    ::testing::ValuesIn(std::vector<Malformed>{
        {"Empty", "", 0, {"'{'"}},
        {"NotAnObject", "[]", 0, {"'{'"}},
        {"LeadingSpace", " {}", 0, {"'{'"}},
        {"TruncatedJson", "{\"w\":{\"dtype\":\"F32\"", 0, {"offset 28"}},
        {"TextAfterTheObject", "{} x", 0, {"offset"}},
        {"ZeroByte", std::string("{}\0x", 4), 0, {"zero byte", "offset 10"}},
        {"NotUtf8", "{\"\xff\":{}}", 0, {"UTF-8"}},
        {"TensorIsANumber", "{\"w\":5}", 0, {"\"w\"", "number 5", "object"}},
        {"TensorIsNull", "{\"w\":null}", 0, {"\"w\"", "null"}},
        {"TooDeep", "{\"w\":{\"shape\":[[1]]}}", 0, {"\"w\"", "a list"}},
        {"ObjectInTensor", "{\"w\":{\"dtype\":{}}}", 0, {"an object"}},
        {"UnknownField", Tensor("\"color\":1"), 0, {"\"w\"", "\"color\""}},
        {"FieldTwice",
         Tensor("\"shape\":[],\"shape\":[]"),
         0,
         {"\"w\"", "\"shape\"", "twice"}},
        {"NoDtype",
         Tensor("\"shape\":[],\"data_offsets\":[0,4]"),
         4,
         {"\"w\"", "missing"}},
        {"NoShape",
         Tensor("\"dtype\":\"F32\",\"data_offsets\":[0,4]"),
         4,
         {"\"w\"", "missing"}},
        {"NoOffsets",
         Tensor("\"dtype\":\"F32\",\"shape\":[1]"),
         4,
         {"\"w\"", "missing"}},
        {"UnknownDtype", Tensor("\"dtype\":\"F31\""), 0, {"\"w\"", "\"F31\""}},
        {"SubByteDtype", Tensor("\"dtype\":\"F4\""), 0, {"\"w\"", "\"F4\""}},
        {"NegativeSize", Tensor("\"shape\":[-1]"), 0, {"\"w\"", "-1"}},
        {"FractionalSize", Tensor("\"shape\":[1.5]"), 0, {"\"w\"", "1.5"}},
        {"HugeSize",
         Tensor("\"shape\":[18446744073709551615]"),
         0,
         {"\"w\"", "18446744073709551615"}},
        {"HugerSize", Tensor("\"shape\":[18446744073709551616]"), 0, {"\"w\""}},
        {"SizeIsText", Tensor("\"shape\":[\"1\"]"), 0, {"\"w\"", "text"}},
        {"OneOffset", Tensor("\"data_offsets\":[0]"), 0, {"\"w\"", "[0]"}},
        {"ThreeOffsets", Tensor("\"data_offsets\":[0,1,2]"), 0, {"[0, 1, 2]"}},
        {"OffsetsBackwards", Tensor("\"data_offsets\":[4,0]"), 4, {"[4, 0]"}},
        {"LengthTooShort",
         Tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]"),
         4,
         {"\"w\"", "[0, 4)", "4 bytes", "F32[2]", "8"}},
        {"LengthOverflows",
         Tensor("\"dtype\":\"F64\",\"shape\":[4611686018427387904,4],"
                "\"data_offsets\":[0,0]"),
         0,
         {"\"w\"", "more than 2^63"}},
        {"ZeroHidesAnOverflow",
         Tensor("\"dtype\":\"F32\",\"shape\":[4611686018427387904,4,0],"
                "\"data_offsets\":[0,0]"),
         0,
         {"\"w\"", "more than 2^63"}},
        {"EndsBeyondTheFile",
         "{" + Floats("w", 4, 0) + "}",
         12,
         {"\"w\"", "16", "12 bytes"}},
        {"Overlap",
         "{" + Floats("v", 2, 0) + "," + Floats("w", 2, 4) + "}",
         12,
         {"\"v\"", "\"w\"", "overlap", "4", "8"}},
        {"SameBytes",
         "{" + Floats("v", 1, 0) + "," + Floats("w", 1, 0) + "}",
         4,
         {"\"v\"", "\"w\"", "overlap"}},
        {"Gap",
         "{" + Floats("v", 1, 0) + "," + Floats("w", 1, 8) + "}",
         12,
         {"\"w\"", "[4, 8)", "gap"}},
        {"GapAtTheStart", "{" + Floats("w", 1, 4) + "}", 8, {"[0, 4)", "gap"}},
        {"TrailingBytes",
         "{" + Floats("w", 1, 0) + "}",
         9,
         {"5 bytes", "data offset 4"}},
        {"DataWithoutTensors", "{}", 3, {"3 bytes"}},
        {"NameTwice",
         "{" + Floats("w", 1, 0) + "," + Floats("w", 1, 4) + "}",
         8,
         {"\"w\"", "twice"}},
        {"MetadataIsText", "{\"__metadata__\":\"x\"}", 0, {"__metadata__"}},
        {"MetadataHoldsANumber",
         "{\"__metadata__\":{\"k\":1}}",
         0,
         {"__metadata__", "\"k\"", "text"}},
        {"MetadataTwice",
         "{\"__metadata__\":{},\"__metadata__\":{}}",
         0,
         {"__metadata__", "twice"}},
        {"MetadataKeyTwice",
         "{\"__metadata__\":{\"k\":\"a\",\"k\":\"b\"}}",
         0,
         {"\"k\"", "twice"}},
    }),
    [](const auto& info) { return std::string(info.param.claim); });

TEST(SafetensorsHeaderTest, RefusesADeepHeaderWithoutRecursion) {
  const std::string deep = "{\"w\":" + std::string(1'000'000, '[');
  EXPECT_THAT(ParseSafetensorsHeader(deep, 0),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(SafetensorsHeaderTest, RefusesATensorOfTooManyDimensions) {
  std::string shape = "1";
  for (int i = 1; i < 65; ++i) shape += ",1";
  EXPECT_THAT(ParseSafetensorsHeader(Tensor("\"shape\":[" + shape + "]"), 0),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"w\""), HasSubstr("more than 64"))));
}

TEST(SafetensorsHeaderTest, ShowsHostileNamesPrintable) {
  const std::string name = "\\u001b[31m" + std::string(10'000, 'x');
  const absl::Status status =
      ParseSafetensorsHeader("{\"" + name + "\":1}", 0).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("\\x1b[31m"));
  EXPECT_LT(status.message().size(), 400u);
}

}  // namespace
}  // namespace tensorferry
