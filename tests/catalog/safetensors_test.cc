#include "catalog/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "catalog/safetensors_header.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  std::string bytes(file.tellg(), '\0');
  file.seekg(0).read(&bytes[0], bytes.size());
  return bytes;
}

void WriteBytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string Length(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i));
  return bytes;
}

// A file made of a header and data.
std::string FileOf(const std::string& header, const std::string& data) {
  return Length(header.size()) + header + data;
}

class SafetensorsTest : public ::testing::Test, protected testing::TestFolder {
 protected:
  std::vector<std::string> FilesInFolder() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path())) {
      names.push_back(entry.path().filename());
    }
    return names;
  }
};

TEST_F(SafetensorsTest, ReadsWhatItWrote) {
  NamedTensors contents;
  contents.names = {"weights", "scalar", "empty"};
  contents.tensors = {at::arange(6, c10::kFloat).reshape({2, 3}),
                      at::full({}, 7, c10::kLong),
                      at::empty({0, 4}, c10::kHalf)};
  contents.metadata = {{"format", "pt"}};
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  for (SafetensorsMemory memory :
       {SafetensorsMemory::kMapped, SafetensorsMemory::kCopied}) {
    FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors read,
                               ReadSafetensors(Path("f"), memory));
    // Wider elements come first.
    EXPECT_THAT(read.names, ElementsAre("scalar", "weights", "empty"));
    EXPECT_EQ(read.metadata, contents.metadata);
    EXPECT_TRUE(read.tensors[0].equal(contents.tensors[1]));
    EXPECT_TRUE(read.tensors[1].equal(contents.tensors[0]));
    EXPECT_EQ(read.tensors[2].scalar_type(), c10::kHalf);
    EXPECT_THAT(read.tensors[2].sizes().vec(), ElementsAre(0, 4));
  }
}

TEST_F(SafetensorsTest, KeepsTheBytesOfEveryDtypeOfTheFormat) {
  NamedTensors contents;
  for (int dtype = 0; dtype < static_cast<int>(c10::ScalarType::Undefined);
       ++dtype) {
    const auto type = static_cast<c10::ScalarType>(dtype);
    if (SafetensorsDtype(type).empty()) continue;
    const int64_t width = static_cast<int64_t>(c10::elementSize(type));
    contents.names.push_back(c10::toString(type));
    contents.tensors.push_back(
        at::arange(3 * width, c10::kByte).remainder(2).view(type));
  }
  ASSERT_EQ(contents.names.size(), 19u);
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors read, ReadSafetensors(Path("f")));
  ASSERT_EQ(read.names.size(), 19u);
  for (size_t i = 0; i < read.names.size(); ++i) {
    EXPECT_EQ(read.names[i], c10::toString(read.tensors[i].scalar_type()));
    const auto original =
        std::find(contents.names.begin(), contents.names.end(), read.names[i]) -
        contents.names.begin();
    EXPECT_TRUE(read.tensors[i]
                    .view(c10::kByte)
                    .equal(contents.tensors[original].view(c10::kByte)))
        << read.names[i];
  }
}

TEST_F(SafetensorsTest, WritesViewsRowByRow) {
  NamedTensors contents;
  const at::Tensor base = at::arange(6, c10::kFloat).reshape({2, 3});
  contents.names = {"transposed", "expanded", "negated", "conjugated"};
  contents.tensors = {base.t(), at::ones({1}).expand({4}), base._neg_view(),
                      base.to(c10::kComplexFloat).conj()};
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors read, ReadSafetensors(Path("f")));
  EXPECT_THAT(read.names,
              ElementsAre("conjugated", "transposed", "expanded", "negated"));
  EXPECT_TRUE(read.tensors[0].equal(contents.tensors[3].resolve_conj()));
  EXPECT_TRUE(read.tensors[1].equal(base.t()));
  EXPECT_TRUE(read.tensors[2].equal(at::ones({4})));
  EXPECT_TRUE(read.tensors[3].equal(-base));
}

TEST_F(SafetensorsTest, WritesAForeignFileAgainByteForByte) {
  // Order, spacing and padding that this writer would not choose itself.
  const std::string foreign = FileOf(
      "{ \"b\":{\"shape\":[1],\"dtype\":\"U8\",\"data_offsets\":[4,5]},\n"
      "\"__metadata__\":{\"z\":\"1\",\"a\":\"\\u00e4\"},"
      "\"a\":{\"data_offsets\":[0,4],\"dtype\":\"F32\",\"shape\":[1]}}    ",
      "\x01\x02\x03\x04\x05");
  WriteBytes(Path("in"), foreign);
  FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors contents,
                             ReadSafetensors(Path("in")));
  ASSERT_THAT(WriteSafetensors(Path("out"), contents), IsOk());
  EXPECT_EQ(ReadBytes(Path("out")), foreign);
}

TEST_F(SafetensorsTest, WritesANewHeaderWhenTheOldOneIsNoLongerTrue) {
  NamedTensors contents;
  contents.names = {"a", "b"};
  contents.tensors = {at::ones({2}), at::ones({3})};
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors read, ReadSafetensors(Path("f")));
  NamedTensors reshaped = read;
  reshaped.tensors[0] = at::zeros({5});
  NamedTensors renamed = read;
  renamed.names[1] = "c";
  NamedTensors described = read;
  described.metadata["k"] = "v";
  NamedTensors lied = read;
  lied.file_header = "{\"a\":";
  for (const NamedTensors& changed : {reshaped, renamed, described, lied}) {
    ASSERT_THAT(WriteSafetensors(Path("g"), changed), IsOk());
    FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors again, ReadSafetensors(Path("g")));
    EXPECT_EQ(again.names, changed.names);
    EXPECT_EQ(again.metadata, changed.metadata);
    EXPECT_TRUE(again.tensors[0].equal(changed.tensors[0]));
  }
}

TEST_F(SafetensorsTest, WritesTheModelAgainByteForByte) {
  const std::string model = std::getenv("MODEL");
  for (SafetensorsMemory memory :
       {SafetensorsMemory::kMapped, SafetensorsMemory::kCopied}) {
    FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors contents,
                               ReadSafetensors(model, memory));
    EXPECT_GT(contents.names.size(), 100u);
    ASSERT_THAT(WriteSafetensors(Path("out"), contents), IsOk());
    EXPECT_TRUE(ReadBytes(Path("out")) == ReadBytes(model));
  }
}

TEST_F(SafetensorsTest, CopiesTensorsThatAreNotAligned) {
  const std::string header =
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[1,5]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}} ";
  WriteBytes(Path("f"), FileOf(header, std::string("\x07\x00\x00\x80\x3f", 5)));
  FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors read, ReadSafetensors(Path("f")));
  ASSERT_THAT(read.names, ElementsAre("b", "w"));
  EXPECT_EQ(read.tensors[0].item<int>(), 7);
  EXPECT_EQ(read.tensors[1].item<float>(), 1.0f);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(read.tensors[1].const_data_ptr()) % 4,
            0u);
}

TEST_F(SafetensorsTest, MappedTensorsOutliveTheFileAndOneAnother) {
  NamedTensors contents;
  contents.names = {"a", "b"};
  contents.tensors = {at::ones({2000}), at::zeros({2000})};
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  at::Tensor b;
  {
    FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors read, ReadSafetensors(Path("f")));
    b = read.tensors[1];
  }
  contents.tensors[1] = at::full({2000}, 5.0);
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  EXPECT_TRUE(b.equal(at::zeros({2000})));
}

TEST_F(SafetensorsTest, AFileThatIsRefusedWhenAllIsWrittenDoesNotAppear) {
  NamedTensors contents;
  contents.names = {"a"};
  contents.tensors = {at::ones({4})};
  const absl::Status taken = absl::AlreadyExistsError("somebody else's");
  EXPECT_THAT(WriteSafetensors(Path("f"), contents, [&] { return taken; }),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_FALSE(std::filesystem::exists(Path("f")));
}

TEST_F(SafetensorsTest, WritesToMappedTensorsDoNotReachTheFile) {
  NamedTensors contents;
  contents.names = {"a"};
  contents.tensors = {at::ones({4})};
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  const std::string before = ReadBytes(Path("f"));
  FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors read, ReadSafetensors(Path("f")));
  read.tensors[0].zero_();
  EXPECT_EQ(ReadBytes(Path("f")), before);
}

TEST_F(SafetensorsTest, AFileThatWasChangedInPlaceIsNoticed) {
  NamedTensors contents;
  contents.names = {"a"};
  contents.tensors = {at::ones({1000})};
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  FERRY_ASSERT_OK_AND_ASSIGN(NamedTensors mapped, ReadSafetensors(Path("f")));
  FERRY_ASSERT_OK_AND_ASSIGN(
      NamedTensors copied,
      ReadSafetensors(Path("f"), SafetensorsMemory::kCopied));
  EXPECT_THAT(CheckUnchanged(mapped), IsOk());

  // Replaced by rename: the mapped file lives on as it was.
  contents.tensors = {at::zeros({1000})};
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  EXPECT_THAT(CheckUnchanged(mapped), IsOk());

  FERRY_ASSERT_OK_AND_ASSIGN(mapped, ReadSafetensors(Path("f")));
  std::string bytes = ReadBytes(Path("f"));
  bytes.back() = 1;
  WriteBytes(Path("f"), bytes);  // of the same size
  std::filesystem::last_write_time(
      Path("f"), std::filesystem::last_write_time(Path("f")) +
                     std::chrono::seconds(1));  // whatever the clock's steps
  EXPECT_THAT(CheckUnchanged(mapped),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr(Path("f")), HasSubstr("changed"))));
  EXPECT_THAT(CheckUnchanged(Filter(mapped, "*")),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(CheckUnchanged(copied), IsOk());
}

TEST_F(SafetensorsTest, ATensorThatMemoryCannotHoldIsResourceExhausted) {
  NamedTensors contents;
  contents.names = {"vast"};
  contents.tensors = {at::ones({1}).expand({int64_t{1} << 50})};
  EXPECT_THAT(
      WriteSafetensors(Path("f"), contents),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("\"vast\"")));
  EXPECT_THAT(FilesInFolder(), IsEmpty());
}

TEST_F(SafetensorsTest, KeepsThePermissionsOfTheFileThatItReplaces) {
  WriteBytes(Path("f"), "the old file");
  ASSERT_EQ(chmod(Path("f").c_str(), 0600), 0);
  ASSERT_THAT(WriteSafetensors(Path("f"), {}), IsOk());
  struct stat found;
  ASSERT_EQ(stat(Path("f").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
}

TEST_F(SafetensorsTest, WritesThroughALink) {
  std::filesystem::create_directory(Path("there"));
  WriteBytes(Path("there/f"), "the old file");
  std::filesystem::create_symlink("there/f", Path("link"));
  ASSERT_THAT(WriteSafetensors(Path("link"), {}), IsOk());
  EXPECT_TRUE(std::filesystem::is_symlink(Path("link")));
  EXPECT_THAT(ReadSafetensors(Path("there/f")), IsOk());
  std::filesystem::create_symlink("nowhere", Path("dangling"));
  EXPECT_THAT(
      WriteSafetensors(Path("dangling"), {}),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("dangling"))));
}

TEST_F(SafetensorsTest, NamesTheFileThatIsMissing) {
  EXPECT_THAT(ReadSafetensors(Path("none")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(Path("none"))));
}

TEST_F(SafetensorsTest, RefusesWhatIsNoRegularFile) {
  EXPECT_THAT(ReadSafetensors(Path("")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("not a regular file")));
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(ReadSafetensors(Path("pipe")),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(WriteSafetensors(Path("pipe"), {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("not a regular file")));
  EXPECT_THAT(WriteSafetensors("/dev/null", {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(SafetensorsTest, RefusesFilesThatLieAboutTheirLength) {
  const std::string header =
      "{\"w\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"", "0 bytes"},
      {"\x01\x02", "2 bytes"},
      {Length(1), "should have 1 bytes"},
      {Length(uint64_t{1} << 63) + "{}", "9223372036854775808"},
      {Length(~uint64_t{0}) + "{}", "18446744073709551615"},
      {FileOf(header, "abc"), "\"w\""},
      {FileOf(header, "abcde"), "1 bytes after the last tensor"},
      {FileOf("", ""), "'{'"},
  };
  for (const auto& [bytes, says] : bad) {
    WriteBytes(Path("f"), bytes);
    for (SafetensorsMemory memory :
         {SafetensorsMemory::kMapped, SafetensorsMemory::kCopied}) {
      EXPECT_THAT(ReadSafetensors(Path("f"), memory),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr(Path("f")), HasSubstr(says))));
    }
  }
}

TEST_F(SafetensorsTest, RefusesAHeaderBeyondTheLimitOfTheEcosystem) {
  WriteBytes(Path("f"), Length(kMaxSafetensorsHeader + 1));
  std::filesystem::resize_file(Path("f"), kMaxSafetensorsHeader + 100);
  EXPECT_THAT(ReadSafetensors(Path("f")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("100000000 are allowed")));
}

TEST_F(SafetensorsTest, EveryTruncationOfAFileIsAnError) {
  NamedTensors contents;
  contents.names = {"a", "b"};
  contents.tensors = {at::ones({2}), at::ones({3}, c10::kByte)};
  ASSERT_THAT(WriteSafetensors(Path("f"), contents), IsOk());
  const std::string whole = ReadBytes(Path("f"));
  for (size_t size = 0; size < whole.size(); ++size) {
    WriteBytes(Path("cut"), whole.substr(0, size));
    EXPECT_THAT(ReadSafetensors(Path("cut")),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << size;
  }
}

TEST_F(SafetensorsTest, NamesTheTensorThatAFileCannotHold) {
  const std::vector<at::Tensor> bad = {
      at::ones({2, 2}).to_sparse(), at::ones({2}, c10::kComplexDouble),
      at::ones({2, 2}).to_sparse_csr(),
      at::empty({2}, at::TensorOptions().device(c10::kMeta)), at::Tensor()};
  WriteBytes(Path("f"), "the old file");
  for (const at::Tensor& tensor : bad) {
    NamedTensors contents;
    contents.names = {"fine", "odd"};
    contents.tensors = {at::ones({1}), tensor};
    EXPECT_THAT(WriteSafetensors(Path("f"), contents),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(Path("f")), HasSubstr("\"odd\""))));
  }
  EXPECT_EQ(ReadBytes(Path("f")), "the old file");
  EXPECT_THAT(FilesInFolder(), ElementsAre("f"));
}

TEST_F(SafetensorsTest, RefusesNamesThatAFileCannotHold) {
  for (const std::string& name :
       {std::string(), std::string("\xff"), std::string("__metadata__")}) {
    NamedTensors contents;
    contents.names = {name};
    contents.tensors = {at::ones({1})};
    EXPECT_THAT(WriteSafetensors(Path("f"), contents),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  NamedTensors twice;
  twice.names = {"a", "a"};
  twice.tensors = {at::ones({1}), at::ones({1})};
  EXPECT_THAT(WriteSafetensors(Path("f"), twice),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"a\"")));
  EXPECT_THAT(FilesInFolder(), IsEmpty());
}

TEST_F(SafetensorsTest, NamesTheFolderThatIsMissing) {
  EXPECT_THAT(WriteSafetensors(Path("none/f"), {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none")));
}

TEST_F(SafetensorsTest, AFullDiskLeavesTheOldFile) {
  WriteBytes(Path("f"), "the old file");
  NamedTensors contents;
  contents.names = {"a"};
  contents.tensors = {at::ones({100'000})};
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  rlimit small = old_limit;
  small.rlim_cur = 1000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = WriteSafetensors(Path("f"), contents);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old_limit), 0);
  signal(SIGXFSZ, old_handler);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               HasSubstr(Path("f"))));
  EXPECT_EQ(ReadBytes(Path("f")), "the old file");
  EXPECT_THAT(FilesInFolder(), ElementsAre("f"));
}

// Writes `contents` in a process that is killed as soon as its file would pass
// `bytes`; returns the signal that ended it, or 0.
int WriteAndDieAt(uint64_t bytes, const std::string& path,
                  const NamedTensors& contents) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit = {bytes, bytes};
    setrlimit(RLIMIT_FSIZE, &limit);  // passing it is SIGXFSZ
    const rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    _exit(WriteSafetensors(path, contents).ok() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

bool HasUnnamedFiles(const std::string& folder) {
  const int fd = open(folder.c_str(), O_TMPFILE | O_WRONLY, 0600);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

TEST_F(SafetensorsTest, AKilledWriterLeavesTheOldFileAndNothingElse) {
  NamedTensors contents;
  contents.names = {"a", "b"};
  contents.tensors = {at::ones({1000}), at::ones({3000})};
  ASSERT_THAT(WriteSafetensors(Path("new"), contents), IsOk());
  const uint64_t whole = ReadBytes(Path("new")).size();
  WriteBytes(Path("f"), "the old file");
  for (uint64_t at : {uint64_t{0}, uint64_t{7}, uint64_t{8}, uint64_t{100},
                      whole / 2, whole - 1}) {
    EXPECT_EQ(WriteAndDieAt(at, Path("f"), contents), SIGXFSZ) << at;
    EXPECT_EQ(ReadBytes(Path("f")), "the old file") << at;
  }
  if (HasUnnamedFiles(Path(""))) {
    EXPECT_THAT(FilesInFolder(), UnorderedElementsAre("f", "new"));
  }
  EXPECT_EQ(WriteAndDieAt(whole, Path("f"), contents), 0);
  EXPECT_EQ(ReadBytes(Path("f")), ReadBytes(Path("new")));
}

TEST_F(SafetensorsTest, AWriterKilledAnywhereLeavesOneWholeFile) {
  NamedTensors ones, twos;
  ones.names = twos.names = {"a"};
  ones.tensors = {at::full({200'000}, 1.0)};
  twos.tensors = {at::full({200'000}, 2.0)};
  ASSERT_THAT(WriteSafetensors(Path("ones"), ones), IsOk());
  ASSERT_THAT(WriteSafetensors(Path("twos"), twos), IsOk());
  const std::string one = ReadBytes(Path("ones"));
  const std::string two = ReadBytes(Path("twos"));
  for (int round = 0; round < 10; ++round) {
    int written[2];
    ASSERT_EQ(pipe(written), 0);
    const pid_t child = fork();
    if (child == 0) {
      for (bool odd = true;; odd = !odd) {
        if (!WriteSafetensors(Path("f"), odd ? ones : twos).ok()) _exit(1);
        if (write(written[1], "w", 1) != 1) _exit(2);
      }
    }
    // Killed during some write after the first few; where is the kernel's luck.
    char byte;
    for (int i = 0; i <= round; ++i) ASSERT_EQ(read(written[0], &byte, 1), 1);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    close(written[0]);
    close(written[1]);
    const std::string left = ReadBytes(Path("f"));
    EXPECT_TRUE(left == one || left == two) << left.size();
  }
}

}  // namespace
}  // namespace tensorferry
