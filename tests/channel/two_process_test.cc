// The local channel under tensorpipe's pipes between two real processes.
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/channel/channel_fixture.h"
#include "tests/testing/child_process.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace testing {
namespace {

using absl::StatusCode;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr size_t kMiB = 1 << 20;
constexpr uid_t kNobody = 65534;

// For all threads of this process. Returns whether it worked.
bool ForbidProcessVmReadv() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program{4, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                 SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

// A pipe over uv that carries tensors by the local channel, else by basic.
class PipeEnd {
 public:
  PipeEnd(pid_t peer, Executor* copier) : side_(Options(peer, copier)) {
    context_.registerTransport(0, "uv", tensorpipe::transport::uv::create());
    context_.registerChannel(1, "local", side_.context);
    context_.registerChannel(0, "basic", tensorpipe::channel::basic::create());
  }
  ~PipeEnd() {
    context_.close();
    if (held_ != nullptr) held_->RunAll();
    context_.join();
  }

  std::string Listen() {
    listener_ = context_.listen({"uv://127.0.0.1"});
    return listener_->url("uv");
  }
  bool Accept() {
    absl::Notification came;
    listener_->accept(
        [&](const tensorpipe::Error&, std::shared_ptr<tensorpipe::Pipe> pipe) {
          pipe_ = std::move(pipe);
          came.Notify();
        });
    return came.WaitForNotificationWithTimeout(kPatience);
  }
  void Connect(const std::string& url) { pipe_ = context_.connect(url); }
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
    pipe_->readDescriptor(
        [this, &into, done = outcome.done()](
            const tensorpipe::Error& error, tensorpipe::Descriptor descriptor) {
          if (error) return done(error);
          into.resize(descriptor.tensors.at(0).length);
          tensorpipe::Allocation allocation;
          allocation.tensors.resize(1);
          allocation.tensors[0].buffer = tensorpipe::CpuBuffer{into.data()};
          pipe_->read(std::move(allocation), done);
        });
  }

  // The last buffer's strategy and why not the better one; "none" before.
  std::string carried() {
    const std::vector<Carried> all = side_.carried();
    if (all.empty()) return "none";
    return absl::StrCat(all.back().strategy, " ",
                        all.back().fell_back.ToString());
  }
  void Flush() { side_.Flush(); }

 private:
  LocalChannelOptions Options(pid_t peer, Executor* copier) {
    held_ = dynamic_cast<HeldExecutor*>(copier);
    LocalChannelOptions options;
    options.copier = copier;
    options.piece_bytes = kMiB;
    options.peer_of = [peer](const Connection&) {
      return PeerProcess{peer, geteuid()};
    };
    return options;
  }

  HeldExecutor* held_ = nullptr;
  Side side_;
  tensorpipe::Context context_;
  std::shared_ptr<tensorpipe::Listener> listener_;
  std::shared_ptr<tensorpipe::Pipe> pipe_;
};

// The child obeys lines of its input and answers each with a line.
class Child {
 public:
  // `how`: "", or what it forbids itself before it does anything.
  int Run(const std::string& url, const std::string& how) {
    if (how == "undumpable") prctl(PR_SET_DUMPABLE, 0);
    if (how == "forbidden" && !ForbidProcessVmReadv()) return 1;
    if (how == "nobody" &&
        (setgroups(0, nullptr) != 0 || setuid(kNobody) != 0)) {
      return 1;
    }
    HeldExecutor held;
    ThreadPool pool(1);
    Executor* copier = &pool;
    if (how == "held") copier = &held;
    PipeEnd end(getppid(), copier);
    end.Connect(url);
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
  // "forbid"
  std::string Obey(PipeEnd& end, const std::string& line) {
    if (line == "forbid") return ForbidProcessVmReadv() ? "done" : "failed";
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

  std::string kept_;
};

class TwoProcessTest : public ::testing::Test {
 protected:
  // `copier`: of this side; null: a thread.
  void Meet(const std::string& how, Executor* copier = nullptr) {
    auto child = ChildProcess::Start({"--child", how});
    ASSERT_THAT(child, IsOk());
    child_ = std::make_unique<ChildProcess>(*std::move(child));
    end_ = std::make_unique<PipeEnd>(child_->pid(), copier ? copier : &pool_);
    ASSERT_THAT(child_->WriteLine(end_->Listen()), IsOk());
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

TEST_F(TwoProcessTest, MemoryOfAProcessThatForbidsItIsNotRead) {
  Meet("undumpable");
  ReceiveFromChild(5, 1, "stream", "not dumpable");
  SendToChild(5, 2, "vm", "OK");
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
  ASSERT_NO_FATAL_FAILURE(Meet("nobody"));
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
  EXPECT_THAT(received.Wait(), ::testing::Not(IsOk()));
}

TEST_F(TwoProcessTest, KilledReceiverIsAnError) {
  Meet("held");
  const std::string bytes = Pattern(kMiB, 1);
  Outcome sent;
  Tell("receive 1 1");
  end_->Send(bytes, sent);
  child_->Signal(SIGKILL);
  EXPECT_THAT(sent.Wait(), StatusIs(StatusCode::kUnknown));
}

TEST_F(TwoProcessTest, ReceiverClosesWhileTheSenderIsStopped) {
  Meet("", &held_);
  std::string into;
  Outcome received;
  end_->Receive(into, received);
  Tell("start 4 1");
  ASSERT_TRUE(held_.RunOne());  // the proof
  ASSERT_TRUE(held_.RunOne());  // the first piece
  child_->Signal(SIGSTOP);
  end_->Close();
  end_->Flush();
  ASSERT_TRUE(held_.RunOne());  // the piece that was on its way
  EXPECT_THAT(received.Wait(), ::testing::Not(IsOk()));
  EXPECT_EQ(into.substr(2 * kMiB), std::string(into.size() - 2 * kMiB, '\0'));
  child_->Signal(SIGCONT);
}

}  // namespace

int RunChild(const std::string& how) {
  std::string url;
  for (char c; read(STDIN_FILENO, &c, 1) == 1 && c != '\n';) url += c;
  return Child().Run(url, how);
}

}  // namespace testing
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--child") {
    return tensorferry::testing::RunChild(argv[2]);
  }
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
