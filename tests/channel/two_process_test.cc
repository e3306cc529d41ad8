// The local channel under tensorpipe's pipes, over our own transport, between
// two real processes.
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "pool/buffer_pool.h"
#include "pool/pool_budget.h"
#include "tests/channel/channel_fixture.h"
#include "tests/testing/child_process.h"
#include "tests/testing/forbid_call.h"
#include "tests/testing/held_executor.h"
#include "tests/testing/status_matchers.h"
#include "transport/hub.h"
#include "transport/poll_loop.h"

namespace tensorferry {
namespace testing {
namespace {

using absl::StatusCode;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr size_t kMiB = 1 << 20;
constexpr uid_t kNobody = 65534;

constexpr char kWires[] = "wires";

// A pipe over a hub's wire that carries tensors by the local channel, else by
// basic.
class PipeEnd {
 public:
  // `pool`: to receive into; null: none.
  explicit PipeEnd(Executor* copier, std::shared_ptr<BufferPool> pool = nullptr)
      : side_(Options(copier, std::move(pool))) {
    HubOptions options;
    options.loop = loop_.get();
    options.handshake_timeout = absl::Minutes(1);  // of slow machines
    hub_ = *Hub::Create(options);
  }
  ~PipeEnd() {
    context_.close();
    if (held_ != nullptr) held_->RunAll();
    context_.join();
    pipe_ = nullptr;
    listener_ = nullptr;
  }

  // The address to dial.
  std::string Listen(Wire wire) {
    Hub::Expected expected =
        *hub_->Expect(Key(), {wire}, absl::Now() + absl::Seconds(60), {});
    Register(std::move(expected.context));
    listener_ = context_.listen({absl::StrCat(kWires, "://", expected.listen)});
    return expected.addresses.at(0);
  }
  bool Accept() {
    Outcome accepted;
    listener_->accept(
        [this, done = accepted.done()](const tensorpipe::Error& error,
                                       std::shared_ptr<tensorpipe::Pipe> pipe) {
          pipe_ = std::move(pipe);
          done(error);
        });
    return accepted.Wait().ok();
  }
  void Connect(const std::string& address) {
    Register(*hub_->Dial(Key(), address, {}));
    pipe_ = context_.connect(absl::StrCat(kWires, "://", address));
  }
  void Close() { pipe_->close(); }

  void Send(const std::string& bytes, Outcome& outcome) {
    tensorpipe::Message message;
    tensorpipe::Message::Tensor tensor;
    tensor.buffer = tensorpipe::CpuBuffer{const_cast<char*>(bytes.data())};
    tensor.length = bytes.size();
    tensor.targetDevice = tensorpipe::Device(tensorpipe::kCpuDeviceType, 0);
    message.tensors.push_back(std::move(tensor));
    pipe_->write(std::move(message), outcome.done());
  }
  void Receive(std::string& into, Outcome& outcome) {
    ReceiveTo(
        [&into](size_t length) {
          into.resize(length);
          return into.data();
        },
        outcome);
  }
  void Receive(const BufferPool::Block& into, Outcome& outcome) {
    ReceiveTo([data = into.data](size_t) { return data; }, outcome);
  }

  // The last buffer's strategy and why not the better one; "none" before.
  std::string carried() {
    const std::vector<Carried> all = side_.carried();
    if (all.empty()) return "none";
    return absl::StrCat(all.back().strategy, " ", all.back().not_vm.ToString());
  }
  void Flush() { side_.Flush(); }

 private:
  static SessionKey Key() { return {"channel test", std::string(16, 'k')}; }

  void ReceiveTo(std::function<void*(size_t length)> memory, Outcome& outcome) {
    pipe_->readDescriptor(
        [this, memory = std::move(memory), done = outcome.done()](
            const tensorpipe::Error& error, tensorpipe::Descriptor descriptor) {
          if (error) return done(error);
          tensorpipe::Allocation allocation;
          allocation.tensors.resize(1);
          allocation.tensors[0].buffer =
              tensorpipe::CpuBuffer{memory(descriptor.tensors.at(0).length)};
          pipe_->read(std::move(allocation), done);
        });
  }

  LocalChannelOptions Options(Executor* copier,
                              std::shared_ptr<BufferPool> pool) {
    held_ = dynamic_cast<HeldExecutor*>(copier);
    LocalChannelOptions options;
    options.loop = loop_.get();
    options.copier = copier;
    options.piece_bytes = kMiB;
    if (held_ != nullptr) options.copy_on_loop_bytes = 0;
    options.peer_of = PeerProcessOf;
    options.descriptors = HubDescriptors();
    options.pool = std::move(pool);
    return options;
  }

  void Register(std::shared_ptr<tensorpipe::transport::Context> transport) {
    context_.registerTransport(0, kWires, std::move(transport));
    context_.registerChannel(1, "local", side_.shared_context());
    context_.registerChannel(0, "basic", tensorpipe::channel::basic::create());
  }

  std::unique_ptr<PollLoop> loop_ = *PollLoop::Create();
  HeldExecutor* held_ = nullptr;
  std::unique_ptr<Hub> hub_;
  Side side_;
  tensorpipe::Context context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::shared_ptr<tensorpipe::Pipe> pipe_;
};

// Sends and receives `count` messages at the same time. Returns what went
// wrong; empty: nothing.
std::string Burst(PipeEnd& end, int count, int seed_out, int seed_in) {
  auto bytes = [](int seed, int i) {
    return Pattern(i % 5 == 0 ? i : i * 100'000, seed + i);
  };
  std::vector<std::string> out, in(count);
  std::vector<Outcome> outcomes(2 * count);
  for (int i = 0; i < count; ++i) out.push_back(bytes(seed_out, i));
  for (int i = 0; i < count; ++i) {
    end.Send(out[i], outcomes[i]);
    end.Receive(in[i], outcomes[count + i]);
  }
  std::string wrong;
  for (Outcome& outcome : outcomes) {
    const absl::Status status = outcome.Wait();
    if (!status.ok()) wrong = status.ToString();
  }
  for (int i = 0; i < count && wrong.empty(); ++i) {
    if (in[i] != bytes(seed_in, i)) wrong = absl::StrCat("message ", i);
  }
  return wrong;
}

// The child obeys lines of its input and answers each with a line.
class Child {
 public:
  // `how`: "", or what it forbids itself before it does anything.
  int Run(const std::string& address, const std::string& how) {
    if (how == "undumpable") prctl(PR_SET_DUMPABLE, 0);
    if (how == "forbidden" && !ForbidCall(SYS_process_vm_readv)) return 1;
    if (how == "nobody" &&
        (setgroups(0, nullptr) != 0 || setuid(kNobody) != 0)) {
      return 1;
    }
    ThreadPool pool(1);
    Executor* copier = &pool;
    if (how == "held") copier = &held_;
    PipeEnd end(copier);
    end.Connect(address);
    for (std::string line; ReadLine(line);) WriteLine(Obey(end, line));
    return 0;
  }

 private:
  static bool ReadLine(std::string& line) {
    line.clear();
    for (char c; read(STDIN_FILENO, &c, 1) == 1 && c != '\n';) line += c;
    return !line.empty();
  }

  // "send MIB SEED", "start MIB SEED" (and do not wait), "receive MIB SEED",
  // "forbid", "why" (its memory cannot be read), "burst", "copy" (held, one)
  std::string Obey(PipeEnd& end, const std::string& line) {
    if (line == "copy") return held_.RunOne() ? "copied" : "nothing came";
    if (line == "why") return absl::StrCat("why: ", WhyUnreadable());
    if (line == "burst") {
      const std::string wrong = Burst(end, 40, 2000, 1000);
      return wrong.empty() ? end.carried() : wrong;
    }
    if (line == "forbid")
      return ForbidCall(SYS_process_vm_readv) ? "done" : "failed";
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    int mib = 0, seed = 0;
    if (words.size() != 3 || !absl::SimpleAtoi(words[1], &mib) ||
        !absl::SimpleAtoi(words[2], &seed)) {
      return "?";
    }
    const std::string bytes = Pattern(mib * kMiB + 1, seed);
    Outcome outcome;
    if (words[0] == "start") {
      kept_ = bytes;
      end.Send(kept_, outcome);
      return "started";
    }
    std::string into;
    if (words[0] == "send") {
      end.Send(bytes, outcome);
    } else {
      end.Receive(into, outcome);
    }
    const absl::Status status = outcome.Wait();
    if (!status.ok()) return status.ToString();
    if (words[0] == "receive" && into != bytes) return "other bytes";
    return end.carried();
  }

  HeldExecutor held_;
  std::string kept_;
};

class TwoProcessTest : public ::testing::Test {
 protected:
  // `copier`: of this side; null: a thread.
  void Meet(const std::string& how, Executor* copier = nullptr,
            Wire wire = Wire::kUnix,
            std::shared_ptr<BufferPool> pool = nullptr) {
    end_ = std::make_unique<PipeEnd>(copier ? copier : &pool_, std::move(pool));
    auto child = ChildProcess::Start({"--child", how, end_->Listen(wire)});
    ASSERT_THAT(child, IsOk());
    child_ = std::make_unique<ChildProcess>(*std::move(child));
    ASSERT_TRUE(end_->Accept());
  }

  void Tell(const std::string& line) {
    ASSERT_THAT(child_->WriteLine(line), IsOk());
  }
  std::string Answer() {
    return child_->ReadLine().value_or("the child has ended");
  }

  // What the child and this side say of a transfer of `mib` from the child.
  void ReceiveFromChild(int mib, int seed, const std::string& strategy,
                        const std::string& why) {
    Tell(absl::StrCat("send ", mib, " ", seed));
    std::string into;
    Outcome received;
    end_->Receive(into, received);
    EXPECT_THAT(received.Wait(), IsOk());
    EXPECT_TRUE(into == Pattern(mib * kMiB + 1, seed));
    ExpectCarried(strategy, why);
  }
  void SendToChild(int mib, int seed, const std::string& strategy,
                   const std::string& why) {
    const std::string bytes = Pattern(mib * kMiB + 1, seed);
    Outcome sent;
    Tell(absl::StrCat("receive ", mib, " ", seed));
    end_->Send(bytes, sent);
    EXPECT_THAT(sent.Wait(), IsOk());
    ExpectCarried(strategy, why);
  }
  void ExpectCarried(const std::string& strategy, const std::string& why) {
    EXPECT_THAT(Answer(), AllOf(StartsWith(strategy), HasSubstr(why)));
    EXPECT_THAT(end_->carried(), AllOf(StartsWith(strategy), HasSubstr(why)));
  }

  ThreadPool pool_{1};
  HeldExecutor held_;
  std::unique_ptr<ChildProcess> child_;
  std::unique_ptr<PipeEnd> end_;
};

TEST_F(TwoProcessTest, MemoryIsReadInBothDirections) {
  Meet("");
  for (int seed = 0; seed < 3; ++seed) {
    ReceiveFromChild(5, seed, "vm", "OK");
    SendToChild(5, seed, "vm", "OK");
  }
}

TEST_F(TwoProcessTest, ManyMessagesAreCarriedBothWaysAtOnce) {
  Meet("");
  Tell("burst");
  EXPECT_EQ(Burst(*end_, 40, 1000, 2000), "");
  ExpectCarried("vm", "OK");
}

TEST_F(TwoProcessTest, ManyMessagesAreStreamedBothWaysAtOnce) {
  Meet("", nullptr, Wire::kTcp);
  Tell("burst");
  EXPECT_EQ(Burst(*end_, 40, 1000, 2000), "");
  ExpectCarried("stream", "does not tell which process");
}

TEST_F(TwoProcessTest, ProcessSaysWhyItsMemoryCannotBeRead) {
  const std::pair<const char*, const char*> kReasons[] = {
      {"", "why: "},
      {"undumpable", "not dumpable"},
      {"forbidden", "process_vm_readv is refused here"}};
  for (const auto& [how, why] : kReasons) {
    Meet(how);
    Tell("why");
    if (*how == '\0') {
      EXPECT_EQ(Answer(), why);
    } else {
      EXPECT_THAT(Answer(), HasSubstr(why));
    }
  }
}

TEST_F(TwoProcessTest, MemoryOfAProcessThatForbidsItIsNotRead) {
  Meet("undumpable");
  ReceiveFromChild(5, 1, "stream", "not dumpable");
  SendToChild(5, 2, "vm", "OK");
}

TEST_F(TwoProcessTest, ConnectionThatDoesNotTellThePeerStreams) {
  Meet("", nullptr, Wire::kTcp);
  ReceiveFromChild(5, 1, "stream", "does not tell which process");
  SendToChild(5, 2, "stream", "does not tell which process");
}

TEST_F(TwoProcessTest, ProcessThatMayNotReadStreams) {
  Meet("forbidden");
  SendToChild(5, 1, "stream", "Operation not permitted");
  ReceiveFromChild(5, 2, "vm", "OK");
}

TEST_F(TwoProcessTest, ReadingThatIsForbiddenWhileInUseGoesOnInTheStream) {
  Meet("");
  SendToChild(5, 1, "vm", "OK");
  Tell("forbid");
  ASSERT_EQ(Answer(), "done");
  for (int seed = 2; seed < 5; ++seed) {
    SendToChild(5, seed, "stream", "Operation not permitted");
  }
  ReceiveFromChild(5, 5, "vm", "OK");
}

TEST_F(TwoProcessTest, ProcessesOfTwoUsersDoNotUseTheChannel) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ASSERT_NO_FATAL_FAILURE(Meet("nobody", nullptr, Wire::kTcp));
  ReceiveFromChild(5, 1, "none", "");
  SendToChild(5, 2, "none", "");
}

TEST_F(TwoProcessTest, SenderKilledWhileItsMemoryIsReadIsAnError) {
  Meet("", &held_);
  std::string into;
  Outcome received;
  end_->Receive(into, received);
  Tell("start 64 1");
  ASSERT_TRUE(held_.RunOne());  // the proof
  ASSERT_TRUE(held_.RunOne());  // the first piece
  child_->Signal(SIGKILL);
  child_->Wait();
  ASSERT_TRUE(held_.RunOne());
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(TwoProcessTest, SenderKilledWhileItWritesToThePoolIsAnError) {
  const auto pool =
      BufferPool::Create({.budget = std::make_shared<PoolBudget>(64 * kMiB)});
  Meet("held", nullptr, Wire::kUnix, pool);
  const size_t length = 4 * kMiB + 1;
  const auto block = pool->Take(length);
  ASSERT_THAT(block, IsOk());
  std::memset(block->data, 0, length);
  Outcome received;
  end_->Receive(*block, received);
  Tell("start 4 1");
  ASSERT_EQ(Answer(), "started");
  for (const char* what : {"the proof", "mapping the arena", "one piece"}) {
    Tell("copy");
    ASSERT_EQ(Answer(), "copied") << what;
  }
  const auto is_zero = [&] {
    return std::all_of(block->data, block->data + length,
                       [](std::byte b) { return b == std::byte{0}; });
  };
  ASSERT_FALSE(is_zero()) << "it is being written";
  child_->Signal(SIGKILL);
  EXPECT_THAT(received.Wait(), StatusIs(StatusCode::kUnavailable));
  EXPECT_TRUE(is_zero()) << "fresh pages";
}

TEST_F(TwoProcessTest, KilledReceiverIsAnError) {
  Meet("held");
  // tensorpipe does not notice a peer that dies before the pipe is up.
  ReceiveFromChild(1, 1, "vm", "OK");
  const std::string bytes = Pattern(kMiB, 1);
  Outcome sent;
  Tell("receive 1 1");
  end_->Send(bytes, sent);
  child_->Signal(SIGKILL);
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kUnavailable));
}

TEST_F(TwoProcessTest, ReceiverClosesWhileTheSenderIsStopped) {
  Meet("", &held_);
  std::string into;
  Outcome received;
  end_->Receive(into, received);
  Tell("start 4 1");
  ASSERT_TRUE(held_.RunOne());  // the proof
  ASSERT_TRUE(held_.RunOne());  // the first piece
  child_->Stop();
  end_->Close();
  end_->Flush();
  ASSERT_TRUE(held_.RunOne());  // the piece that was in line
  EXPECT_THAT(received.Wait(), ::testing::Not(IsOk()));
  EXPECT_EQ(into.substr(2 * kMiB), std::string(into.size() - 2 * kMiB, '\0'));
  child_->Signal(SIGCONT);
}

}  // namespace

int RunChild(const std::string& how, const std::string& address) {
  return Child().Run(address, how);
}

}  // namespace testing
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--child") {
    return tensorferry::testing::RunChild(argv[2], argv[3]);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
