#include "control/control_listener.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;

// Descriptors until there are none, but for one.
class OneDescriptorLeft {
 public:
  OneDescriptorLeft() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit low = before_;
    low.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &low);
    int fd;
    while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
      taken_.push_back(fd);
    }
    close(taken_.back());
    taken_.pop_back();
  }
  ~OneDescriptorLeft() {
    for (int fd : taken_) close(fd);
    setrlimit(RLIMIT_NOFILE, &before_);
  }

 private:
  rlimit before_ = {};
  std::vector<int> taken_;
};

class ControlListenerTest : public ::testing::Test,
                            protected testing::TestFolder {
 protected:
  ControlListenerTest() : TestFolder(kForSockets) {}

  absl::StatusOr<std::unique_ptr<ControlListener>> Listen() {
    return ControlListener::Listen(absl::StrCat("unix:", path_), {},
                                   Access::Everybody(), builder_);
  }
  bool FileIsThere() const { return std::filesystem::exists(path_); }

  grpc::ServerBuilder builder_;
  const std::string path_ = Path("sock");
};

TEST_F(ControlListenerTest, TheFileOfItsSocketGoesWithIt) {
  auto listener = Listen();
  ASSERT_THAT(listener, IsOk());
  EXPECT_TRUE(FileIsThere());
  listener->reset();
  EXPECT_FALSE(FileIsThere());
}

TEST_F(ControlListenerTest, AFileThatTookItsPlaceStays) {
  auto listener = Listen();
  ASSERT_THAT(listener, IsOk());
  std::filesystem::rename(path_, path_ + ".old");
  auto other = Listen();
  ASSERT_THAT(other, IsOk());
  listener->reset();
  EXPECT_TRUE(FileIsThere());
}

TEST_F(ControlListenerTest, WithoutDescriptorsItSaysSoAndLeavesNoFile) {
  absl::Status status;
  {
    const OneDescriptorLeft scarce;  // the socket's
    status = Listen().status();
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               HasSubstr("cannot listen on unix:")));
  EXPECT_FALSE(FileIsThere());
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
