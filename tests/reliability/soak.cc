// Sessions that move digested tensors between processes, about 50 a second,
// while a nemesis kills, stops, resets and sends garbage. See tools/soak.
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "tests/reliability/peer_program.h"
#include "tests/reliability/process_view.h"
#include "tests/reliability/raw_socket.h"
#include "tests/reliability/remote_peer.h"
#include "tests/reliability/tcp_proxy.h"
#include "tests/testing/becomes.h"

namespace tensorferry {
namespace testing {
namespace {

constexpr int kProcesses = 3;  // on each side; the first is never killed
// Of each client while it has load: 60 a second in all, which are 50 with the
// pauses between rounds and without what killed clients did.
constexpr int kSessionsPerSecond = 20;
constexpr int kFewestPerSecond = 5;  // a busy machine does not keep up
constexpr absl::Duration kStuck = absl::Seconds(20);
constexpr uint64_t kMoreMemory = uint64_t{8} << 20;
constexpr int64_t kMoreInUse = 2 << 10;  // KiB of the heap
constexpr int kMoreThreads = 4;          // gRPC's own come and go
constexpr int64_t kMostBytes = 4 << 20;  // of one tensor

struct Options {
  absl::Duration time = absl::Minutes(10);
  absl::Duration round = absl::Seconds(5);  // one deed of the nemesis each
  unsigned seed = std::random_device()();
  std::string json;  // where the summary goes too
};

// "OK=12 UNAVAILABLE=3 longest_ms=40 worst: ..."
using Counts = std::map<std::string, int64_t>;

void AddCounts(const std::string& text, Counts& counts) {
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    const std::vector<std::string> pair = absl::StrSplit(word, '=');
    int64_t value = 0;
    if (pair.size() != 2 || !absl::SimpleAtoi(pair[1], &value)) continue;
    int64_t& total = counts[pair[0]];
    total = pair[0] == "longest_ms" ? std::max(total, value) : total + value;
  }
}

class Soak {
 public:
  explicit Soak(Options options)
      : options_(std::move(options)), random_(options_.seed) {}
  // Whether all went as it should.
  bool Run();

 private:
  // What the first server and the first client hold while nothing happens.
  struct Held {
    ProcessView view;
    int64_t in_use = 0;  // KiB of the heap
  };
  struct Sample {
    absl::Duration at;
    Held server, client;
  };

  void Violation(std::string what);
  std::unique_ptr<RemotePeer> Start(std::vector<std::string> arguments);
  void Round(absl::Duration time, bool with_nemesis);
  void Act();
  void KillServer();
  void KillClient();
  void StopSomebody();
  void ResetConnections();
  void SendGarbage();
  void TakeAnswer(int client, RemotePeer::Answer answer);
  void CheckNobodyDied();
  void CheckReceived();
  void AwaitQuiet();
  static Held HeldBy(RemotePeer& peer);
  Sample TakeSample();
  static bool IsFlat(const Held& before, const Held& now);
  void CheckFlat();
  static std::string ToString(const Held& held);
  std::vector<std::string> Samples() const;
  void Summarise(absl::Duration time);

  const Options options_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<RemotePeer>> servers_, clients_;
  std::vector<std::string> addresses_;  // of servers_
  std::unique_ptr<TcpProxy> proxy_;     // in front of the first server
  std::vector<bool> killed_;            // of clients_, in this round
  Counts outcomes_, deeds_;
  std::vector<std::string> violations_;
  absl::Time began_;
  std::vector<Sample> samples_;
};

void Soak::Violation(std::string what) {
  std::cerr << "VIOLATION: " << what << std::endl;
  violations_.push_back(std::move(what));
}

std::unique_ptr<RemotePeer> Soak::Start(std::vector<std::string> arguments) {
  auto peer = RemotePeer::Start(arguments);
  if (peer.ok()) return *std::move(peer);
  Violation(absl::StrCat("a peer did not start (",
                         absl::StrJoin(arguments, " "),
                         "): ", peer.status().ToString()));
  return nullptr;
}

bool Soak::Run() {
  for (int i = 0; i < kProcesses; ++i) {
    servers_.push_back(Start({absl::StrCat("name=server", i), "lease=5"}));
    clients_.push_back(
        Start({absl::StrCat("name=client", i), "control=none", "lease=5"}));
    if (servers_[i] == nullptr || clients_[i] == nullptr) return false;
    addresses_.push_back(servers_[i]->address());
  }
  for (const ListeningSocket& socket : ListeningSockets(servers_[0]->pid())) {
    if (testing::ToString(socket) == addresses_[0]) {
      proxy_ = std::make_unique<TcpProxy>(socket);
    }
  }
  if (proxy_ == nullptr) {
    Violation("the first server listens nowhere");
    return false;
  }

  began_ = absl::Now();
  // What a process takes once, it has taken before the first sample.
  const absl::Duration between = std::min(options_.time / 4, absl::Minutes(1));
  absl::Duration next_sample = between;
  for (absl::Duration at; at < options_.time && violations_.size() < 20;
       at = absl::Now() - began_) {
    Round(options_.round, true);
    if (absl::Now() - began_ < next_sample) continue;
    samples_.push_back(TakeSample());
    next_sample += between;
  }
  Round(std::min(options_.round, absl::Seconds(2)), false);
  CheckFlat();
  if (outcomes_["OK"] <
      absl::ToInt64Seconds(options_.time) * kFewestPerSecond) {
    Violation(absl::StrCat("only ", outcomes_["OK"], " sessions were OK"));
  }
  Summarise(absl::Now() - began_);
  return violations_.empty();
}

void Soak::Round(absl::Duration time, bool with_nemesis) {
  std::vector<std::string> targets = addresses_;
  targets.push_back(proxy_->address());
  std::vector<RemotePeer::Answer> answers;
  killed_.assign(kProcesses, false);
  for (const auto& client : clients_) {
    answers.push_back(client->Ask("load", absl::StrJoin(targets, "+"),
                                  kSessionsPerSecond,
                                  absl::ToInt64Milliseconds(time), kMostBytes));
  }
  if (with_nemesis) Act();
  for (int i = 0; i < kProcesses; ++i) {
    if (!killed_[i]) TakeAnswer(i, answers[i]);
  }
  CheckNobodyDied();
  CheckReceived();
}

void Soak::TakeAnswer(int client, RemotePeer::Answer answer) {
  // Somebody whom it waits for may be stopped until then.
  const absl::Status status = answer.status(options_.round + 3 * kStuck);
  const std::string who = absl::StrCat("client", client);
  if (!status.ok()) {
    return Violation(absl::StrCat(who, " is stuck: ", status.ToString()));
  }
  const std::string text = answer.text();
  Counts counts;
  AddCounts(text, counts);
  if (counts["longest_ms"] > absl::ToInt64Milliseconds(kStuck)) {
    Violation(absl::StrCat(who, ": a step took ", counts["longest_ms"], " ms"));
  }
  if (const size_t at = text.find("worst: "); at != std::string::npos) {
    Violation(absl::StrCat(who, ": ", text.substr(at)));
  }
  AddCounts(text, outcomes_);
}

void Soak::Act() {
  using Deed = void (Soak::*)();
  static constexpr std::pair<const char*, Deed> kDeeds[] = {
      {"kill a server", &Soak::KillServer},
      {"kill a client", &Soak::KillClient},
      {"stop one", &Soak::StopSomebody},
      {"reset connections", &Soak::ResetConnections},
      {"send garbage", &Soak::SendGarbage}};
  const auto& [name, deed] = kDeeds[random_() % std::size(kDeeds)];
  ++deeds_[name];
  std::cerr << name << std::endl;
  CheckNobodyDied();  // before it is blamed on us
  (this->*deed)();
}

void Soak::KillServer() {
  const int which = 1 + random_() % (kProcesses - 1);
  servers_[which]->Kill();
  auto next = Start({absl::StrCat("name=server", which), "lease=5",
                     absl::StrCat("control=", addresses_[which])});
  if (next != nullptr) servers_[which] = std::move(next);
}

void Soak::KillClient() {
  const int which = 1 + random_() % (kProcesses - 1);
  clients_[which]->Kill();
  killed_[which] = true;
  auto next =
      Start({absl::StrCat("name=client", which), "control=none", "lease=5"});
  if (next != nullptr) clients_[which] = std::move(next);
}

void Soak::StopSomebody() {
  auto& peers = random_() % 2 == 0 ? servers_ : clients_;
  RemotePeer& peer = *peers[random_() % kProcesses];
  peer.Stop();
  absl::Notification never;
  never.WaitForNotificationWithTimeout(
      absl::Milliseconds(100 + random_() % 3000));
  peer.Continue();
}

void Soak::ResetConnections() { proxy_->Reset(); }

void Soak::SendGarbage() {
  for (const auto& server : servers_) {
    for (const ListeningSocket& port : ListeningSockets(server->pid())) {
      for (int i = 0; i < 50; ++i) {
        auto socket = RawSocket::Connect(port);
        if (!socket.ok()) continue;
        std::string bytes(random_() % 200, '\0');
        for (char& byte : bytes) byte = static_cast<char>(random_());
        socket->Send(bytes, absl::ZeroDuration());
        if (random_() % 2 == 0) socket->Reset();
      }
    }
  }
}

void Soak::CheckNobodyDied() {
  for (auto* peers : {&servers_, &clients_}) {
    for (size_t i = 0; i < peers->size(); ++i) {
      if (IsAlive((*peers)[i]->pid())) continue;
      Violation(absl::StrCat(peers == &servers_ ? "server" : "client", i,
                             " died by itself"));
    }
  }
}

void Soak::CheckReceived() {
  for (auto* peers : {&servers_, &clients_}) {
    for (const auto& peer : *peers) {
      Counts counts;
      auto stats = peer->Ask("stats");
      AddCounts(stats.text(), counts);
      if (counts["corrupt"] + counts["misordered"] == 0) continue;
      Violation(absl::StrCat("received: ", stats.text()));
    }
  }
}

void Soak::AwaitQuiet() {
  for (RemotePeer* peer : {servers_[0].get(), clients_[0].get()}) {
    if (!Becomes(
            [&] {
              return absl::EndsWith(peer->Ask("stats").text(), " sessions=0");
            },
            2 * kStuck)) {
      Violation(absl::StrCat("sessions outlive their callers: ",
                             peer->Ask("stats").text()));
    }
  }
}

Soak::Held Soak::HeldBy(RemotePeer& peer) {
  Counts counts;
  AddCounts(peer.Ask("trim").text(), counts);
  return {Look(peer.pid()), counts["in_use"]};
}

Soak::Sample Soak::TakeSample() {
  AwaitQuiet();
  return {absl::Now() - began_, HeldBy(*servers_[0]), HeldBy(*clients_[0])};
}

bool Soak::IsFlat(const Held& before, const Held& now) {
  return now.view.descriptors <= before.view.descriptors &&
         now.view.memfds <= before.view.memfds &&
         now.view.threads <= before.view.threads + kMoreThreads &&
         now.view.memory <= before.view.memory + kMoreMemory &&
         now.in_use <= before.in_use + kMoreInUse;
}

void Soak::CheckFlat() {
  samples_.emplace_back();
  const Sample& first = samples_.front();
  Sample& last = samples_.back();
  Becomes(
      [&] {
        last = TakeSample();
        return IsFlat(first.server, last.server) &&
               IsFlat(first.client, last.client);
      },
      kStuck);
  if (!IsFlat(first.server, last.server)) Violation("the server is not flat");
  if (!IsFlat(first.client, last.client)) Violation("the client is not flat");
}

std::string JsonString(absl::string_view text) {
  std::string escaped;
  for (char c : text) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return absl::StrCat("\"", escaped, "\"");
}

std::string JsonOf(const Counts& counts) {
  return absl::StrCat("{",
                      absl::StrJoin(counts, ", ",
                                    [](std::string* out, const auto& pair) {
                                      absl::StrAppend(out,
                                                      JsonString(pair.first),
                                                      ": ", pair.second);
                                    }),
                      "}");
}

std::string JsonOf(const std::vector<std::string>& list) {
  return absl::StrCat("[",
                      absl::StrJoin(list, ", ",
                                    [](std::string* out, const auto& text) {
                                      out->append(JsonString(text));
                                    }),
                      "]");
}

std::string Soak::ToString(const Held& held) {
  return absl::StrCat(testing::ToString(held.view), ", ", held.in_use,
                      " KiB of heap in use");
}

std::vector<std::string> Soak::Samples() const {
  std::vector<std::string> lines;
  for (const Sample& sample : samples_) {
    const std::string at =
        absl::StrCat(absl::ToInt64Seconds(sample.at), " s, ");
    lines.push_back(absl::StrCat(at, "server: ", ToString(sample.server)));
    lines.push_back(absl::StrCat(at, "client: ", ToString(sample.client)));
  }
  return lines;
}

void Soak::Summarise(absl::Duration time) {
  const std::string json = absl::StrCat(
      "{\"seconds\": ", absl::ToInt64Seconds(time),
      ", \"seed\": ", options_.seed, ", \"sessions\": ", JsonOf(outcomes_),
      ", \"nemesis\": ", JsonOf(deeds_), ", \"held\": ", JsonOf(Samples()),
      ", \"violations\": ", JsonOf(violations_), "}");
  std::cout << json << std::endl;
  if (!options_.json.empty()) std::ofstream(options_.json) << json << "\n";
  std::cerr << (violations_.empty() ? "no violation" : "VIOLATIONS: ");
  if (!violations_.empty()) std::cerr << violations_.size();
  std::cerr << " in " << absl::FormatDuration(time) << std::endl;
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::pair<std::string, std::string> flag =
        absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    int64_t value = 0;
    const bool number = absl::SimpleAtoi(flag.second, &value);
    if (flag.first == "--seconds" && number) {
      options.time = absl::Seconds(value);
    } else if (flag.first == "--round_ms" && number) {
      options.round = absl::Milliseconds(value);
    } else if (flag.first == "--seed" && number) {
      options.seed = static_cast<unsigned>(value);
    } else if (flag.first == "--json") {
      options.json = flag.second;
    } else {
      std::cerr << "usage: soak [--seconds=N] [--round_ms=N] [--seed=N] "
                   "[--json=PATH]\n";
      return 2;
    }
  }
  std::cerr << "seed " << options.seed << std::endl;
  return Soak(options).Run() ? 0 : 1;
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (tensorferry::testing::IsPeerProgram(argc, argv)) {
    return tensorferry::testing::PeerProgram(argc, argv);
  }
  signal(SIGPIPE, SIG_IGN);  // it talks to processes that it killed
  return tensorferry::testing::Main(argc, argv);
}
