#include "examples/compare_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOkAndHolds;
using ::tensorferry::testing::StatusIs;

constexpr auto kDataLoss = absl::StatusCode::kDataLoss;

std::string Write(const std::string& name, const std::string& bytes) {
  const std::string path = ::testing::TempDir() + "/" + name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

TEST(CompareFilesTest, OneWrongByteIsSeen) {
  const std::string bytes(3'000'000, 'x');
  const std::string original = Write("original", bytes);
  EXPECT_THAT(CompareFiles(original, Write("same", bytes)),
              IsOkAndHolds(bytes.size()));
  for (size_t at : {size_t{0}, size_t{1} << 20, bytes.size() - 1}) {
    std::string wrong = bytes;
    wrong[at] = 'y';
    EXPECT_THAT(CompareFiles(original, Write("wrong", wrong)),
                StatusIs(kDataLoss))
        << at;
  }
}

TEST(CompareFilesTest, FilesOfOtherLengthsDiffer) {
  const std::string original = Write("original", "xxxx");
  EXPECT_THAT(CompareFiles(original, Write("short", "xxx")),
              StatusIs(kDataLoss));
  EXPECT_THAT(CompareFiles(original, Write("long", "xxxxx")),
              StatusIs(kDataLoss));
}

TEST(CompareFilesTest, NothingIsNotTheSameAsNothing) {
  EXPECT_THAT(CompareFiles(Write("empty", ""), Write("void", "")),
              StatusIs(kDataLoss));
  EXPECT_THAT(CompareFiles("/none", "/none"), StatusIs(kDataLoss));
}

}  // namespace
}  // namespace tensorferry
