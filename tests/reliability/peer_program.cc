#include "tests/reliability/peer_program.h"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/executor.h"
#include "base/status_macros.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/reliability/confinement.h"
#include "tests/reliability/content.h"
#include "tests/testing/child_process.h"

namespace tensorferry {
namespace testing {
namespace {

constexpr uint32_t kData = 1;
constexpr uint32_t kEcho = 2;
constexpr int kFirstAccepted = 1'000'000;  // numbers of accepted sessions
constexpr absl::Duration kShort = absl::Seconds(20);

using Arguments = std::map<std::string, std::string>;
using Words = std::vector<std::string>;

Arguments ParseArguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 2; i < argc; ++i) {
    const std::pair<std::string, std::string> pair =
        absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    arguments.insert(pair);
  }
  return arguments;
}

std::string Get(const Arguments& arguments, const std::string& key,
                std::string otherwise) {
  auto found = arguments.find(key);
  return found == arguments.end() ? otherwise : found->second;
}

int64_t Number(const std::string& text) {
  int64_t value = 0;
  return absl::SimpleAtoi(text, &value) ? value : 0;
}

int64_t Number(const Arguments& arguments, const std::string& key,
               int64_t otherwise) {
  auto found = arguments.find(key);
  return found == arguments.end() ? otherwise : Number(found->second);
}

Confinement ConfinementOf(const Arguments& arguments) {
  Confinement confinement = {
      .descriptors = static_cast<int>(Number(arguments, "descriptors", 0)),
      .address_space = Number(arguments, "address_space", 0),
      .undumpable = Number(arguments, "undumpable", 0) != 0,
      .full_shm = Number(arguments, "full_shm", 0) != 0,
      .user = static_cast<int>(Number(arguments, "user", -1)),
      .network = Get(arguments, "network", "")};
  confinement.denied =
      absl::StrSplit(Get(arguments, "denied", ""), '+', absl::SkipEmpty());
  return confinement;
}

// Of the control plane; data is proved all the same.
template <class Options>
void AllowInsecure(Options& options) {
  if constexpr (requires { options.security.insecure; }) {
    options.security.insecure = true;
    options.client_security.insecure = true;
  }
}

PeerOptions OptionsOf(const Arguments& arguments) {
  PeerOptions options;
  options.name = Get(arguments, "name", "peer");
  options.control = Get(arguments, "control", options.control);
  if (options.control == "none") options.control.clear();
  options.data = Get(arguments, "data", options.data);
  options.max_sessions =
      static_cast<int>(Number(arguments, "sessions", options.max_sessions));
  options.lease = absl::Seconds(Number(arguments, "lease", 15));
  if (const int64_t pool = Number(arguments, "pool_bytes", -1); pool >= 0) {
    options.pool_bytes = pool;
  }
  if (Number(arguments, "insecure", 0) != 0) AllowInsecure(options);
  options.heartbeat = std::min(options.heartbeat, options.lease / 4);
  return options;
}

Offer OfferOf(const std::string& path) {
  Offer offer;
  if (path != "any") offer.paths = {path};
  return offer;
}

// One of our sessions, with what it still expects.
struct Served {
  std::shared_ptr<Session> session;
  std::atomic<int64_t> next_sent{0};
  int64_t next_received = 0;  // one receive at a time
};

// Sends of one command: as many at a time as its window allows, until one
// fails.
class Window {
 public:
  explicit Window(int size) : size_(size) {}
  // Waits for room. False: one has failed, and no more should follow.
  bool Enter() {
    auto room = [this] { return under_way_ < size_; };
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&room));
    if (!status_.ok()) return false;
    ++under_way_;
    return true;
  }
  void Leave(const absl::Status& status) {
    absl::MutexLock lock(&mu_);
    --under_way_;
    status_.Update(status);
  }
  absl::Status Finish() {
    auto none = [this] { return under_way_ == 0; };
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&none));
    return status_;
  }

 private:
  const int size_;
  absl::Mutex mu_;
  int under_way_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

class Program {
 public:
  explicit Program(const Arguments& arguments)
      : receives_(Get(arguments, "receive", "on") == "on"),
        options_(OptionsOf(arguments)) {}

  absl::Status Start();
  void ObeyInput();
  void Stop();

 private:
  using Result = absl::StatusOr<std::string>;

  void Say(int64_t number, const absl::Status& status, std::string text = "");
  void Event(absl::string_view what, int64_t session,
             const absl::Status& status);
  Result Obey(const Words& words);
  Result Connect(const Words& words);
  Result Send(const Words& words);
  Result Echo(const Words& words);
  Result Churn(const Words& words);
  Result Load(const Words& words);
  Result Watch(const Words& words);
  Result Close(const Words& words);
  Result Stats();
  Result Trim();

  void Adopt(int64_t number, std::shared_ptr<Session> session);
  void ReceiveNext(int64_t number, std::shared_ptr<Served> served);
  void Check(Served& served, const Received& received);
  absl::StatusOr<std::shared_ptr<Served>> Find(const std::string& number);
  absl::Status EchoOnce(Session& session, int64_t nbytes, absl::Duration most);
  absl::Status OneSession(const std::string& address, const std::string& path,
                          int echoes, int64_t nbytes, absl::Duration most,
                          absl::Duration* longest = nullptr);
  uint64_t Moved();

  const bool receives_;
  const PeerOptions options_;
  std::unique_ptr<Peer> peer_;
  std::vector<std::string> paths_;
  std::atomic<int64_t> received_{0}, corrupt_{0}, misordered_{0};
  std::atomic<int> next_accepted_{kFirstAccepted}, next_seed_{1};

  absl::Mutex output_;
  absl::Mutex mu_;
  std::map<int64_t, std::shared_ptr<Served>> sessions_ ABSL_GUARDED_BY(mu_);
  uint64_t moved_before_ ABSL_GUARDED_BY(mu_) = 0;  // by those that ended
  int commands_ ABSL_GUARDED_BY(mu_) = 0;           // under way
};

void Program::Say(int64_t number, const absl::Status& status,
                  std::string text) {
  if (!status.ok()) text = std::string(status.message());
  absl::StrReplaceAll({{"\n", " "}}, &text);
  absl::MutexLock lock(&output_);
  WriteLine(absl::StrCat(number, " ", absl::StatusCodeToString(status.code()),
                         " ", text));
}

void Program::Event(absl::string_view what, int64_t session,
                    const absl::Status& status) {
  std::string text(status.message());
  absl::StrReplaceAll({{"\n", " "}}, &text);
  absl::MutexLock lock(&output_);
  WriteLine(absl::StrCat("0 ", what, " ", session, " ",
                         absl::StatusCodeToString(status.code()), " ", text));
}

absl::Status Program::Start() {
  FERRY_ASSIGN_OR_RETURN(peer_, Peer::Create(options_));
  peer_->Accept([this](std::shared_ptr<Session> session) {
    const int number = next_accepted_++;
    Adopt(number, std::move(session));
    Event("accepted", number, absl::OkStatus());
  });
  for (const PathCapability& path : peer_->GetCapabilities().paths) {
    if (path.unusable.empty() && path.from_type == "cpu" &&
        path.to_type == "cpu") {
      paths_.push_back(path.name);
    }
  }
  Say(0, absl::OkStatus(),
      peer_->control_address().empty() ? "none" : peer_->control_address());
  return absl::OkStatus();
}

void Program::ObeyInput() {
  for (std::string line; std::getline(std::cin, line);) {
    const Words words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() < 2) continue;
    absl::MutexLock lock(&mu_);
    ++commands_;
    std::thread([this, words] {
      const Result result = Obey(words);
      Say(Number(words[0]), result.status(), result.value_or(""));
      absl::MutexLock lock(&mu_);
      --commands_;
    }).detach();
  }
}

void Program::Stop() {
  blocking::Shutdown(*peer_, absl::ZeroDuration()).IgnoreError();
  auto none = [this] { return commands_ == 0; };
  {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&none));
    sessions_.clear();
  }
  peer_.reset();
}

Program::Result Program::Obey(const Words& words) {
  const std::string& verb = words[1];
  if (verb == "connect" && words.size() == 5) return Connect(words);
  if (verb == "send" && words.size() >= 6) return Send(words);
  if (verb == "echo" && words.size() == 6) return Echo(words);
  if (verb == "churn" && words.size() == 6) return Churn(words);
  if (verb == "load" && words.size() == 6) return Load(words);
  if (verb == "watch" && words.size() == 3) return Watch(words);
  if (verb == "close" && words.size() == 4) return Close(words);
  if (verb == "stats") return Stats();
  if (verb == "trim") return Trim();
  return absl::InternalError(
      absl::StrCat("no such command: ", absl::StrJoin(words, " ")));
}

void Program::Adopt(int64_t number, std::shared_ptr<Session> session) {
  auto served = std::make_shared<Served>();
  served->session = session;
  {
    absl::MutexLock lock(&mu_);
    sessions_[number] = served;
  }
  session
      ->Handle(kEcho,
               [this](Session& from, Received call) {
                 if (!IsIntact(call.message)) ++corrupt_;
                 from.Reply(call.envelope, std::move(call.message), {},
                            [](absl::StatusOr<Receipt>) {});
               })
      .IgnoreError();
  if (receives_) ReceiveNext(number, served);
  session->OnEnd([this, number](SessionReport report) {
    Event("ended", number, report.why);
    std::shared_ptr<Served> last;
    absl::MutexLock lock(&mu_);
    moved_before_ +=
        report.counters.bytes_sent + report.counters.bytes_received;
    auto found = sessions_.find(number);
    if (found == sessions_.end()) return;
    last = std::move(found->second);
    sessions_.erase(found);
  });
}

void Program::ReceiveNext(int64_t number, std::shared_ptr<Served> served) {
  Session& session = *served->session;
  session.Receive({}, [this, number, served = std::move(served)](
                          absl::StatusOr<Received> received) mutable {
    if (!received.ok()) return Event("lost", number, received.status());
    Check(*served, *received);
    ReceiveNext(number, std::move(served));
  });
}

void Program::Check(Served& served, const Received& received) {
  ++received_;
  if (!IsIntact(received.message)) ++corrupt_;
  if (received.message.id != served.next_received) ++misordered_;
  served.next_received = received.message.id + 1;
}

// An error, with how long it took.
absl::Status Timed(const absl::Status& status, absl::Duration took) {
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(status.message(), " after_ms=",
                                   absl::ToInt64Milliseconds(took)));
}

absl::StatusOr<std::shared_ptr<Served>> Program::Find(
    const std::string& number) {
  absl::MutexLock lock(&mu_);
  auto found = sessions_.find(Number(number));
  if (found != sessions_.end()) return found->second;
  return absl::NotFoundError(absl::StrCat("no session ", number));
}

Program::Result Program::Connect(const Words& words) {
  FERRY_ASSIGN_OR_RETURN(
      std::shared_ptr<Session> session,
      blocking::Connect(*peer_, words[2], OfferOf(words[3]),
                        absl::Milliseconds(Number(words[4]))));
  std::string id = session->id();
  Adopt(Number(words[0]), std::move(session));
  return id;
}

Program::Result Program::Send(const Words& words) {
  FERRY_ASSIGN_OR_RETURN(std::shared_ptr<Served> served, Find(words[2]));
  const int64_t count = Number(words[3]), nbytes = Number(words[4]);
  SendOptions options;
  options.timeout = absl::Milliseconds(Number(words[5]));
  Window window(words.size() > 6 ? Number(words[6]) : 1);
  std::string paths;  // of the last one
  for (int64_t i = 0; i < count && window.Enter(); ++i) {
    TensorMessage content =
        MakeContent(kData, served->next_sent++, nbytes, next_seed_++);
    served->session->Send(
        std::move(content), options,
        [&, last = i + 1 == count,
         begun = absl::Now()](absl::StatusOr<Receipt> receipt) {
          if (receipt.ok() && last) {
            for (const PathUse& use : receipt->paths) {
              absl::StrAppend(&paths, use.path, use.status.ok() ? " " : "! ");
            }
          }
          window.Leave(Timed(receipt.status(), absl::Now() - begun));
        });
  }
  FERRY_RETURN_IF_ERROR(window.Finish());
  return paths;
}

absl::Status Program::EchoOnce(Session& session, int64_t nbytes,
                               absl::Duration most) {
  TensorMessage request = MakeContent(kEcho, 0, nbytes, next_seed_++);
  const std::string digest = request.payload;
  CallOptions options;
  options.timeout = most;
  FERRY_ASSIGN_OR_RETURN(
      Received reply,
      blocking::Call(session, std::move(request), std::move(options)));
  if (IsIntact(reply.message) && reply.message.payload == digest) {
    return absl::OkStatus();
  }
  ++corrupt_;
  return absl::DataLossError("the tensor came back as another");
}

Program::Result Program::Echo(const Words& words) {
  FERRY_ASSIGN_OR_RETURN(std::shared_ptr<Served> served, Find(words[2]));
  const absl::Duration most = absl::Milliseconds(Number(words[5]));
  for (int64_t i = 0; i < Number(words[3]); ++i) {
    FERRY_RETURN_IF_ERROR(EchoOnce(*served->session, Number(words[4]), most));
  }
  return "";
}

// Each step may take `most`; `longest` becomes what the slowest took.
absl::Status Program::OneSession(const std::string& address,
                                 const std::string& path, int echoes,
                                 int64_t nbytes, absl::Duration most,
                                 absl::Duration* longest) {
  absl::Time began = absl::Now();
  auto step = [&] {
    const absl::Time now = absl::Now();
    if (longest != nullptr) *longest = std::max(*longest, now - began);
    began = now;
  };
  absl::StatusOr<std::shared_ptr<Session>> session =
      blocking::Connect(*peer_, address, OfferOf(path), most);
  step();
  if (!session.ok()) return session.status();
  absl::Status echoed;
  for (int i = 0; i < echoes && echoed.ok(); ++i) {
    echoed = EchoOnce(**session, nbytes, most);
    step();
  }
  blocking::Close(**session, most).status().IgnoreError();
  step();
  return echoed;
}

Program::Result Program::Churn(const Words& words) {
  for (int64_t i = 0; i < Number(words[4]); ++i) {
    FERRY_RETURN_IF_ERROR(
        OneSession(words[2], words[3], 1, Number(words[5]), kShort));
  }
  return "";
}

// Sessions start when they are due, however long others take, and tell how they
// went: how many ended with which status, and the longest time one took.
Program::Result Program::Load(const Words& words) {
  const Words addresses = absl::StrSplit(words[2], '+', absl::SkipEmpty());
  const int64_t rate = std::max<int64_t>(Number(words[3]), 1);
  const absl::Time until = absl::Now() + absl::Milliseconds(Number(words[4]));
  const int64_t most_bytes = Number(words[5]);
  constexpr int kMostAtOnce = 64;
  absl::Mutex mu;
  std::map<absl::StatusCode, int64_t> outcomes;
  absl::Duration longest;
  std::string worst;  // a status that nothing which was done explains
  Window window(kMostAtOnce);
  ThreadPool pool(kMostAtOnce);
  std::mt19937 random(next_seed_++ + static_cast<int>(getpid()));
  absl::Time due = absl::Now();
  for (absl::Notification never; due < until; due += absl::Seconds(1) / rate) {
    never.WaitForNotificationWithTimeout(due - absl::Now());
    if (!window.Enter()) break;
    const std::string address = addresses[random() % addresses.size()];
    const std::string path = paths_[random() % paths_.size()];
    const int echoes = 1 + random() % 3;
    const int64_t nbytes = 4 << (random() % 24);
    pool.Run([&, address, path, echoes, nbytes] {
      absl::Duration took;
      const absl::Status status =
          OneSession(address, path, echoes, std::min(nbytes, most_bytes),
                     absl::Seconds(5), &took);
      {
        absl::MutexLock lock(&mu);
        ++outcomes[status.code()];
        longest = std::max(longest, took);
        if (status.code() == absl::StatusCode::kDataLoss ||
            status.code() == absl::StatusCode::kInternal ||
            status.code() == absl::StatusCode::kUnknown ||
            status.code() == absl::StatusCode::kInvalidArgument) {
          worst = status.ToString();
        }
      }
      window.Leave(absl::OkStatus());
    });
  }
  FERRY_RETURN_IF_ERROR(window.Finish());
  absl::MutexLock lock(&mu);
  std::string text;
  for (const auto& [code, count] : outcomes) {
    absl::StrAppend(&text, absl::StatusCodeToString(code), "=", count, " ");
  }
  return absl::StrCat(text, "longest_ms=", absl::ToInt64Milliseconds(longest),
                      worst.empty() ? "" : " worst: ", worst);
}

uint64_t Program::Moved() {
  absl::MutexLock lock(&mu_);
  uint64_t moved = moved_before_;
  for (const auto& [number, served] : sessions_) {
    const LinkCounters counters = served->session->counters();
    moved += counters.bytes_sent + counters.bytes_received;
  }
  return moved;
}

Program::Result Program::Watch(const Words& words) {
  const uint64_t goal = Moved() + Number(words[2]);
  const absl::Time until = absl::Now() + absl::Minutes(1);
  absl::Notification never;
  while (Moved() < goal) {
    if (absl::Now() > until) return absl::DeadlineExceededError("no progress");
    never.WaitForNotificationWithTimeout(absl::Milliseconds(1));
  }
  return "";
}

Program::Result Program::Close(const Words& words) {
  FERRY_ASSIGN_OR_RETURN(std::shared_ptr<Served> served, Find(words[2]));
  FERRY_ASSIGN_OR_RETURN(
      SessionReport report,
      blocking::Close(*served->session, absl::Milliseconds(Number(words[3]))));
  FERRY_RETURN_IF_ERROR(report.why);
  return "";
}

Program::Result Program::Stats() {
  absl::MutexLock lock(&mu_);
  return absl::StrCat(
      "received=", received_.load(), " corrupt=", corrupt_.load(),
      " misordered=", misordered_.load(), " sessions=", sessions_.size());
}

// Memory that is free but lies between what is not goes back to the system, so
// that what the process still has is what it holds.
Program::Result Program::Trim() {
  malloc_trim(0);
  const struct mallinfo2 heap = mallinfo2();
  return absl::StrCat("in_use=", (heap.uordblks + heap.hblkhd) >> 10);
}

}  // namespace

bool IsPeerProgram(int argc, char** argv) {
  return argc > 1 && std::strcmp(argv[1], "--peer") == 0;
}

int PeerProgram(int argc, char** argv) {
  const Arguments arguments = ParseArguments(argc, argv);
  // As a parent's choice may have been; a user's program has the default.
  signal(SIGPIPE, SIG_DFL);
  // What is freed is given back, so that memory that grows is memory held.
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
  Program program(arguments);
  absl::Status status = Confine(ConfinementOf(arguments));
  if (status.ok()) status = program.Start();
  if (!status.ok()) {
    std::string text = status.ToString();
    absl::StrReplaceAll({{"\n", " "}}, &text);
    WriteLine(
        absl::StrCat("0 ", absl::StatusCodeToString(status.code()), " ", text));
    return 3;
  }
  program.ObeyInput();
  program.Stop();
  return 0;
}

}  // namespace testing
}  // namespace tensorferry
