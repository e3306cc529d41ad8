#ifndef TENSORFERRY_TESTS_TESTING_TEST_FOLDER_H_
#define TENSORFERRY_TESTS_TESTING_TEST_FOLDER_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace tensorferry {
namespace testing {

// A folder of a test's own, removed with all that is in it.
class TestFolder {
 public:
  // A unix socket's path has 107 bytes at most, Bazel's folders have more.
  static constexpr char kForSockets[] = "/tmp";

  explicit TestFolder(const std::string& parent = ::testing::TempDir())
      : path_(parent + "/ferry_XXXXXX") {
    EXPECT_NE(mkdtemp(path_.data()), nullptr) << path_;
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  // Puts a file in the place of the one there may be, as one step.
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name) + ".new", std::ios::binary) << text;
    std::filesystem::rename(Path(name) + ".new", Path(name));
  }

 private:
  std::string path_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TESTING_TEST_FOLDER_H_
