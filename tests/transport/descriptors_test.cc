// Descriptors beside the bytes of a connection, from honest peers and others.
#include "transport/descriptors.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/testing/becomes.h"
#include "tests/testing/child_process.h"
#include "tests/testing/open_descriptors.h"
#include "tests/transport/connection_fixture.h"
#include "tests/transport/system_calls.h"

namespace tensorferry {
namespace {

using absl::StatusCode;
using ::tensorferry::testing::Becomes;
using ::tensorferry::testing::OpenDescriptors;
using ::testing::HasSubstr;
using testing::IsOk;
using testing::StatusIs;

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

// A file in memory that holds `text`.
UniqueFd FileOf(const std::string& text, int seals = kSizeSeals) {
  UniqueFd file(
      memfd_create("descriptors_test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(write(file.get(), text.data(), text.size()),
            static_cast<ssize_t>(text.size()));
  EXPECT_EQ(fcntl(file.get(), F_ADD_SEALS, seals), 0);
  return file;
}

// To close its last descriptor takes an hour, or until the far end reads.
class SlowToClose {
 public:
  SlowToClose() {
    const UniqueFd listener(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listener.get(), any, size), 0);
    EXPECT_EQ(listen(listener.get(), 1), 0);
    EXPECT_EQ(getsockname(listener.get(), any, &size), 0);
    near_ = UniqueFd(socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_EQ(connect(near_.get(), any, size), 0);
    far_ = UniqueFd(accept(listener.get(), nullptr, nullptr));
    const linger an_hour{.l_onoff = 1, .l_linger = 3600};
    EXPECT_EQ(setsockopt(near_.get(), SOL_SOCKET, SO_LINGER, &an_hour,
                         sizeof(an_hour)),
              0);
    const std::string bytes(1 << 16, 'x');
    while (send(near_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
    }
  }
  ~SlowToClose() {
    const linger none{};
    setsockopt(near_.get(), SOL_SOCKET, SO_LINGER, &none, sizeof(none));
  }

  // Whoever `socket` leads to gets the last one, with `bytes`.
  void GoTo(RawSocket& socket, const std::string& bytes) {
    ASSERT_TRUE(socket.SendWith({near_.get()}, bytes));
    near_.Reset();
  }
  // Whether it is closed then.
  bool ReadToTheEnd() {
    const timeval patience{.tv_sec = absl::ToInt64Seconds(kPatience)};
    setsockopt(far_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience,
               sizeof(patience));
    std::string bytes(1 << 20, '\0');
    ssize_t size;
    while ((size = recv(far_.get(), bytes.data(), bytes.size(), 0)) > 0) {
    }
    return size == 0;
  }

 private:
  UniqueFd near_, far_;
};

// While it lives this process gets no more descriptors.
class NoMoreDescriptors {
 public:
  NoMoreDescriptors() {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    rlimit none = before_;
    none.rlim_cur = UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)).get();
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  }
  ~NoMoreDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_;
};

std::string TextOf(const std::optional<UniqueFd>& file) {
  if (!file.has_value()) return "no descriptor";
  char text[64];
  const ssize_t size = pread(file->get(), text, sizeof(text), 0);
  return size < 0 ? "not readable" : std::string(text, size);
}

// Whether at most that many are open, after what has to be closed on other
// threads.
bool AwaitAtMostDescriptors(int count) {
  return Becomes([&] { return OpenDescriptors() <= count; });
}
bool AwaitOpenDescriptors(int count) {
  return AwaitAtMostDescriptors(count) && OpenDescriptors() == count;
}

class DescriptorsTest : public ConnectionFixture {
 protected:
  static std::future<absl::Status> WriteWith(
      tensorpipe::transport::Connection& connection, const UniqueFd& descriptor,
      const std::string& bytes) {
    auto done = std::make_shared<std::promise<absl::Status>>();
    WriteWithDescriptor(connection, descriptor.get(), bytes.data(),
                        bytes.data(), bytes.size(),
                        [done](const tensorpipe::Error& error) {
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

TEST_F(DescriptorsTest, WhereItMayNotGoOtherBytesCome) {
  Open(Wire::kUnix);
  const UniqueFd file = FileOf("hello");
  const std::string bytes = "x", without = "y";
  for (const int error : {ETOOMANYREFS, EPERM, EACCES, 0}) {
    FailSendingDescriptors(error);
    std::promise<bool> written;
    WriteWithDescriptor(
        *dialed_, file.get(), bytes.data(), without.data(), 1,
        [&](const tensorpipe::Error& error) { written.set_value(!error); });
    ASSERT_THAT(ReadByte(), IsOk());
    EXPECT_TRUE(written.get_future().get());
    EXPECT_EQ(byte_, error == 0 ? 'x' : 'y');
    EXPECT_EQ(TakeDescriptor(*accepted_).has_value(), error == 0);
  }
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

TEST_F(DescriptorsTest, OneThatIsNoSealedMemoryIsDataLoss) {
  Open(Wire::kUnix);
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const UniqueFd near(pair[0]), far(pair[1]);
  const UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC)),
      program(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)),
      shrinks = FileOf("f", F_SEAL_GROW), grows = FileOf("f", F_SEAL_SHRINK);
  HangUp();
  const int before = OpenDescriptors();
  for (const int descriptor :
       {shrinks.get(), grows.get(), epoll.get(), near.get(), program.get()}) {
    {
      RawSocket client = DialRaw();
      EXPECT_THAT(CarriesDescriptors(*accepted_), IsOk());
      client.SendWith({descriptor}, Byte('k'));
      EXPECT_THAT(ReadByte(),
                  StatusIs(StatusCode::kDataLoss, HasSubstr("sealed")));
      EXPECT_FALSE(TakeDescriptor(*accepted_).has_value());
      EXPECT_TRUE(client.WaitUntilClosed());
    }
    HangUp();
    EXPECT_TRUE(AwaitOpenDescriptors(before));
  }
}

TEST_F(DescriptorsTest, OneThatBlocksWhenItIsClosedHoldsUpNobody) {
  Open(Wire::kUnix);
  SlowToClose slow;
  RawSocket client = DialRaw();
  slow.GoTo(client, Byte('s'));
  EXPECT_THAT(ReadByte(), StatusIs(StatusCode::kDataLoss));
  EXPECT_THAT(TryHonestSession(*hub_, Wire::kUnix), IsOk());
  EXPECT_TRUE(slow.ReadToTheEnd());
}

TEST_F(DescriptorsTest, OfAStrangerOneThatBlocksHoldsUpNobody) {
  Open(Wire::kUnix);
  SlowToClose read, unread;
  std::promise<void> sent;
  loop_->Post([&] { sent.get_future().wait(); });
  RawSocket taken = RawConnect(address_), refused = RawConnect(address_);
  read.GoTo(taken, "T");
  ASSERT_TRUE(refused.Send(std::string(1000, 'X')));
  unread.GoTo(refused, "X");
  sent.set_value();
  EXPECT_TRUE(refused.WaitUntilClosed());
  EXPECT_THAT(TryHonestSession(*hub_, Wire::kUnix), IsOk());
  EXPECT_TRUE(read.ReadToTheEnd());
  EXPECT_TRUE(unread.ReadToTheEnd());
}

TEST_F(DescriptorsTest, WhereNoMoreMayBeOpenTheBytesComeWithoutThem) {
  Open(Wire::kUnix);
  RawSocket client = DialRaw();
  const UniqueFd first = FileOf("first"), second = FileOf("second");
  {
    NoMoreDescriptors limit;
    client.SendWith({first.get()}, Byte('1'));
    ASSERT_THAT(ReadByte(), IsOk());
  }
  client.SendWith({second.get()}, Byte('2'));
  ASSERT_THAT(ReadByte(), IsOk());
  const auto missing = TakeDescriptor(*accepted_);
  ASSERT_TRUE(missing.has_value());
  EXPECT_FALSE(missing->valid());
  EXPECT_EQ(TextOf(TakeDescriptor(*accepted_)), "second");
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
  EXPECT_TRUE(AwaitAtMostDescriptors(before + 4)) << "the socket's two ends";
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
