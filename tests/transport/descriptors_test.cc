// Descriptors beside the bytes of a connection, from honest peers and others.
#include "transport/descriptors.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <future>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/testing/child_process.h"
#include "tests/transport/connection_fixture.h"

namespace tensorferry {
namespace {

using absl::StatusCode;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

// A file in memory that holds `text`.
UniqueFd FileOf(const std::string& text) {
  UniqueFd file(memfd_create("descriptors_test", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), text.data(), text.size()),
            static_cast<ssize_t>(text.size()));
  return file;
}

std::string TextOf(const std::optional<UniqueFd>& file) {
  if (!file.has_value()) return "no descriptor";
  char text[64];
  const ssize_t size = pread(file->get(), text, sizeof(text), 0);
  return size < 0 ? "not readable" : std::string(text, size);
}

int OpenDescriptors() {
  return static_cast<int>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

// Whether that many are open, after what has to be closed on other threads.
bool AwaitOpenDescriptors(int count) {
  const absl::Time until = absl::Now() + kPatience;
  while (OpenDescriptors() != count && absl::Now() < until) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  return OpenDescriptors() == count;
}

class DescriptorsTest : public ConnectionFixture {
 protected:
  static std::future<absl::Status> WriteWith(
      tensorpipe::transport::Connection& connection, const UniqueFd& descriptor,
      const std::string& bytes) {
    auto done = std::make_shared<std::promise<absl::Status>>();
    WriteWithDescriptor(connection, descriptor.get(), bytes.data(),
                        bytes.size(), [done](const tensorpipe::Error& error) {
                          done->set_value(error ? HubErrorStatus(error.what())
                                                : absl::OkStatus());
                        });
    return done->get_future();
  }

  // A client that has proved the key, and this side's end of its connection.
  RawSocket DialRaw() {
    HangUp();
    std::promise<ConnectionPtr> came;
    listener_->accept([&](const tensorpipe::Error&, ConnectionPtr connection) {
      came.set_value(std::move(connection));
    });
    RawSocket socket = *RawDial(address_, key_, ++number_);
    socket.Send(RawFrame(FrameKind::kPacket, SpontaneousHello()));
    accepted_ = came.get_future().get();
    std::promise<void> read;
    accepted_->read(hello_,
                    [&](const tensorpipe::Error&) { read.set_value(); });
    read.get_future().wait();
    return socket;
  }

  // So that only what a test opens comes and goes.
  void HangUp() {
    dialed_ = accepted_ = nullptr;
    Turn(*loop_);
  }

  absl::Status ReadByte() {
    auto done = Read(accepted_, &byte_, 1);
    return done.wait_for(absl::ToChronoNanoseconds(kPatience)) ==
                   std::future_status::ready
               ? done.get()
               : absl::DeadlineExceededError("nothing came");
  }

  static std::string Byte(char byte) {
    return RawFrame(FrameKind::kBytes, std::string(1, byte));
  }

  uint64_t number_ = 100;
  char byte_ = 0;
};

TEST_F(DescriptorsTest, ComesNoLaterThanItsBytesAndIsClosedOnExec) {
  Open(Wire::kUnix);
  const UniqueFd file = FileOf("hello");
  const std::string bytes = "x";
  char byte = 0;
  auto read = Read(accepted_, &byte, 1);
  EXPECT_THAT(WriteWith(*dialed_, file, bytes).get(), IsOk());
  ASSERT_THAT(read.get(), IsOk());
  const auto came = TakeDescriptor(*accepted_);
  EXPECT_EQ(TextOf(came), "hello");
  EXPECT_NE(fcntl(came->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_FALSE(TakeDescriptor(*accepted_).has_value());
}

// Both larger and smaller than what a socket takes at once, many in one turn.
TEST_F(DescriptorsTest, EachComesBeforeItsBytesHoweverTheyAreCut) {
  Open(Wire::kUnix);
  constexpr int kCount = 60;
  std::vector<std::string> out, in;
  std::vector<UniqueFd> files;
  std::vector<std::future<absl::Status>> written;
  for (int i = 0; i < kCount; ++i) {
    out.emplace_back(i % 7 == 0 ? 700'000 : i, 'a' + i % 26);
    in.emplace_back(out.back().size(), '\0');
    files.push_back(FileOf(absl::StrCat(i)));
  }
  std::promise<void> posted;
  loop_->Post([&] {
    for (int i = 0; i < kCount; ++i) {
      if (i % 3 == 0) {
        written.push_back(WriteWith(*dialed_, files[i], out[i]));
      } else {
        dialed_->write(out[i].data(), out[i].size(),
                       [](const tensorpipe::Error&) {});
      }
    }
    posted.set_value();
  });
  posted.get_future().wait();
  for (int i = 0; i < kCount; ++i) {
    ASSERT_THAT(Read(accepted_, in[i].data(), in[i].size()).get(), IsOk());
    EXPECT_TRUE(in[i] == out[i]) << i;
    if (i % 3 == 0) {
      EXPECT_EQ(TextOf(TakeDescriptor(*accepted_)), absl::StrCat(i));
    }
  }
  for (auto& done : written) EXPECT_THAT(done.get(), IsOk());
}

TEST_F(DescriptorsTest, OnlyUnixSocketsCarryThem) {
  for (const Wire wire : {Wire::kTcp, Wire::kTls}) {
    if (dialing_ != nullptr) dialing_->join();
    if (accepting_ != nullptr) accepting_->join();
    Start({});
    Open(wire);
    EXPECT_THAT(CarriesDescriptors(*dialed_),
                StatusIs(StatusCode::kFailedPrecondition));
    const UniqueFd file = FileOf("hello");
    const std::string bytes = "x";
    EXPECT_THAT(
        WriteWith(*dialed_, file, bytes).get(),
        StatusIs(StatusCode::kFailedPrecondition, HasSubstr("no unix socket")));
  }
}

TEST_F(DescriptorsTest, OfAnyKindTheyComeToWhoeverTakesThem) {
  Open(Wire::kUnix);
  RawSocket client = DialRaw();
  EXPECT_THAT(CarriesDescriptors(*accepted_), IsOk());
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const UniqueFd near(pair[0]), far(pair[1]);
  const UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC)), file = FileOf("f");
  for (const int descriptor : {file.get(), epoll.get(), near.get()}) {
    client.SendWith({descriptor}, Byte('k'));
    ASSERT_THAT(ReadByte(), IsOk());
    EXPECT_TRUE(TakeDescriptor(*accepted_).has_value());
  }
}

TEST_F(DescriptorsTest, TooManyThatNobodyTakesAreDataLoss) {
  Open(Wire::kUnix);
  RawSocket client = DialRaw();
  const UniqueFd file = FileOf("flood");
  const int open = OpenDescriptors();
  for (size_t i = 0; i < kMostDescriptorsWaiting; ++i) {
    client.SendWith({file.get()}, Byte('f'));
    ASSERT_THAT(ReadByte(), IsOk());
  }
  EXPECT_EQ(OpenDescriptors(),
            open + static_cast<int>(kMostDescriptorsWaiting));
  client.SendWith({file.get()}, Byte('f'));
  EXPECT_THAT(ReadByte(), StatusIs(StatusCode::kDataLoss,
                                   HasSubstr("descriptors that nobody took")));
  EXPECT_TRUE(client.WaitUntilClosed());
  EXPECT_FALSE(TakeDescriptor(*accepted_).has_value());
  EXPECT_TRUE(AwaitOpenDescriptors(open - 1));
}

TEST_F(DescriptorsTest, TooManyAtOnceAreDataLoss) {
  Open(Wire::kUnix);
  RawSocket client = DialRaw();
  const UniqueFd file = FileOf("flood");
  const int open = OpenDescriptors();
  client.SendWith(std::vector<int>(200, file.get()), Byte('f'));
  EXPECT_THAT(ReadByte(),
              StatusIs(StatusCode::kDataLoss, HasSubstr("at once")));
  EXPECT_TRUE(client.WaitUntilClosed());
  EXPECT_TRUE(AwaitOpenDescriptors(open - 1));
}

TEST_F(DescriptorsTest, ThoseOfACutFrameAreClosedWithItsConnection) {
  Open(Wire::kUnix);
  HangUp();
  const int before = OpenDescriptors();
  {
    RawSocket client = DialRaw();
    const UniqueFd file = FileOf("cut");
    client.SendWith({file.get(), file.get()},
                    RawFrame(FrameKind::kBytes, "12345").substr(0, 10));
    client.FinishSending();
    char bytes[5];
    EXPECT_THAT(Read(accepted_, bytes, 5).get(),
                StatusIs(StatusCode::kUnavailable));
  }
  accepted_ = nullptr;
  EXPECT_TRUE(AwaitOpenDescriptors(before));
}

TEST_F(DescriptorsTest, OfAStrangerNoneIsKept) {
  Open(Wire::kUnix);
  const UniqueFd file = FileOf("stranger");
  const std::vector<int> many(100, file.get());
  const int before = OpenDescriptors();
  RawSocket stranger = RawConnect(address_);
  // The beginning of a hello, byte for byte, each with a hundred.
  for (const char byte : {'T', 'F', 'D', 'P', '\1', '\1'}) {
    ASSERT_TRUE(stranger.SendWith(many, std::string(1, byte)));
  }
  // The loop has read them: it answers somebody who came later.
  EXPECT_THAT(TryHonestSession(*hub_, Wire::kUnix), IsOk());
  EXPECT_LE(OpenDescriptors(), before + 4) << "the socket's two ends, at most";
}

TEST_F(DescriptorsTest, WithTheFirstFrameNoneIsKept) {
  Open(Wire::kUnix);
  const UniqueFd file = FileOf("first");
  std::promise<ConnectionPtr> came;
  listener_->accept([&](const tensorpipe::Error&, ConnectionPtr connection) {
    came.set_value(std::move(connection));
  });
  RawSocket client = *RawDial(address_, key_, ++number_);
  client.SendWith({file.get()},
                  RawFrame(FrameKind::kPacket, SpontaneousHello()));
  accepted_ = came.get_future().get();
  client.Send(Byte('x'));
  std::promise<void> read;
  accepted_->read(hello_, [&](const tensorpipe::Error&) { read.set_value(); });
  read.get_future().wait();
  EXPECT_THAT(ReadByte(), IsOk());
  EXPECT_FALSE(TakeDescriptor(*accepted_).has_value());
}

// The child dials, and writes the memory whose descriptor comes to it.
TEST_F(DescriptorsTest, AnotherProcessHasTheSameFile) {
  auto expected = hub_->Expect(key_, {Wire::kUnix}, absl::InfiniteFuture(), {});
  ASSERT_THAT(expected, IsOk());
  accepting_ = expected->context;
  listener_ = accepting_->listen(expected->listen);
  address_ = expected->addresses[0];
  std::promise<ConnectionPtr> came;
  listener_->accept([&](const tensorpipe::Error&, ConnectionPtr connection) {
    came.set_value(std::move(connection));
  });
  auto child = testing::ChildProcess::Start(
      {"--child", address_, key_.session_id,
       std::string(absl::BytesToHexString(key_.key))});
  ASSERT_THAT(child, IsOk());
  accepted_ = came.get_future().get();
  std::promise<void> greeted;
  accepted_->read(hello_,
                  [&](const tensorpipe::Error&) { greeted.set_value(); });
  greeted.get_future().wait();
  const UniqueFd file = FileOf("ours  ");
  const std::string bytes = "x";
  EXPECT_THAT(WriteWith(*accepted_, file, bytes).get(), IsOk());
  ASSERT_THAT(ReadByte(), IsOk());  // the child has written
  EXPECT_EQ(TextOf(UniqueFd(dup(file.get()))), "theirs");
}

}  // namespace

// Ends with 0 once it has written to the file whose descriptor it was sent.
int RunChild(const std::string& address, const SessionKey& key) {
  auto loop = *PollLoop::Create();
  auto hub = *Hub::Create({.loop = loop.get()});
  auto context = *hub->Dial(key, address, {});
  Hello hello;
  auto connection = context->connect("anything");
  connection->write(hello, [](const tensorpipe::Error&) {});
  char byte;
  std::promise<bool> read, written;
  connection->read(&byte, 1,
                   [&](const tensorpipe::Error& error, const void*, size_t) {
                     read.set_value(!error);
                   });
  bool good = read.get_future().get();
  const auto file = TakeDescriptor(*connection);
  good = good && file.has_value() && pwrite(file->get(), "theirs", 6, 0) == 6;
  connection->write(&byte, 1, [&](const tensorpipe::Error& error) {
    written.set_value(!error);
  });
  good = written.get_future().get() && good;
  testing::AwaitInputClosed();
  context->join();
  return good ? 0 : 1;
}

}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 5 && std::string(argv[1]) == "--child") {
    return tensorferry::RunChild(argv[2],
                                 {argv[3], absl::HexStringToBytes(argv[4])});
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
