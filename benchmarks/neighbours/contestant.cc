// One process of one contestant of the comparison. It obeys the lines of JSON
// on its standard input and answers each with one on its standard output;
// contestant.py is its twin for neighbours of Python. Usage:
//
//   contestant NAME|plugin:LIBRARY sender|receiver READY
//
// READY is the descriptor of a pipe from the receiver to the sender, through
// which goes a byte when the receiver is ready for a message, so that what it
// does in between counts for nobody. LIBRARY: see plugin.h.
//
// The receiver first says {"address": ...}. Then, to the sender and to the
// receiver at the same time:
//
//   {"do": "connect", "address": ...}   The sender connects and sends 4 bytes.
//                      {"seconds": until they had arrived}
//   {"do": "load", "sizes": [...]}      Tensors of so many bytes each; none:
//                      what was loaded goes. {}
//   {"do": "turn", "messages": N, "reuse": B}   One message that does not
//                      count, then N. {"seconds": [...] (of the sender's),
//                      "cpu_seconds": and "context_switches": of each message,
//                      "fingerprint": what was sent, or received last}
//
// {"error": ...} is the last answer.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "benchmarks/neighbours/limits.h"
#include "benchmarks/neighbours/neighbour.h"
#include "benchmarks/two_process/process_usage.h"
#include "benchmarks/two_process/workload.h"

namespace tensorferry::benchmarks {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr absl::string_view kPlugin = "plugin:";

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

absl::StatusOr<Neighbour> Find(const std::string& name) {
  if (absl::StartsWith(name, kPlugin)) {
    return PluginNeighbour(name.substr(kPlugin.size()));
  }
  const std::map<std::string, Neighbour> neighbours = {
      {"ferry", FerryNeighbour("unix/local", /*digests=*/true)},
      {"ferry_no_digest", FerryNeighbour("unix/local", /*digests=*/false)},
      {"ferry_tcp", FerryNeighbour("tcp/basic", /*digests=*/true)},
      {"ferry_tcp_no_digest", FerryNeighbour("tcp/basic", /*digests=*/false)},
      {"bare", BareNeighbour("unix/local", /*packed=*/false)},
      {"bare_packed", BareNeighbour("unix/local", /*packed=*/true)},
      {"bare_tcp", BareNeighbour("tcp/basic", /*packed=*/false)},
      {"grpc", GrpcNeighbour(absl::StrCat("unix-abstract:ferry-", getpid()))},
      {"grpc_tcp", GrpcNeighbour("127.0.0.1:0")},
      {"rpc_cpp", RpcNeighbour()},
      {"memcpy", MemcpyLimit(/*threads=*/1)},
      {"memcpy_2", MemcpyLimit(/*threads=*/2)},
      {"readv", ReadvLimit()},
      {"tcp", TcpLimit()},
  };
  auto found = neighbours.find(name);
  if (found != neighbours.end()) return found->second;
  return absl::NotFoundError(absl::StrCat("no contestant '", name, "'"));
}

json UsageSince(const ProcessUsage& before, int messages) {
  const ProcessUsage each = ProcessUsage::Now().Each(before, messages);
  return {{"cpu_seconds", each.cpu_seconds},
          {"context_switches", each.context_switches}};
}

class End {
 public:
  explicit End(int ready) : ready_(ready) {}
  virtual ~End() = default;

  absl::StatusOr<json> Obey(const json& command) {
    const std::string verb = command.value("do", "");
    if (verb == "connect") return Connect(command.value("address", ""));
    if (verb == "load") {
      Load(command.at("sizes").get<std::vector<int64_t>>());
      return json::object();
    }
    if (verb == "turn") {
      return TakeTurn(command.at("messages"), command.at("reuse"));
    }
    return absl::InvalidArgumentError(absl::StrCat("what is '", verb, "'?"));
  }

 protected:
  virtual absl::StatusOr<json> Connect(const std::string& address) = 0;
  virtual void Load(const std::vector<int64_t>& sizes) = 0;
  virtual absl::StatusOr<json> TakeTurn(int messages, bool reuse) = 0;

  absl::Status SayReady() {
    return write(ready_, "r", 1) == 1 ? absl::OkStatus() : Gone();
  }
  absl::Status AwaitReady() {
    char byte;
    return read(ready_, &byte, 1) == 1 ? absl::OkStatus() : Gone();
  }

 private:
  static absl::Status Gone() {
    return absl::UnavailableError("the other process is gone");
  }

  const int ready_;
};

class SendingEnd : public End {
 public:
  SendingEnd(Neighbour neighbour, int ready)
      : End(ready), neighbour_(std::move(neighbour)) {}

 private:
  absl::StatusOr<json> Connect(const std::string& address) override {
    const Contents first = FillSizes({4});
    const auto begin = Clock::now();
    FERRY_ASSIGN_OR_RETURN(sender_, neighbour_.connect(address));
    FERRY_RETURN_IF_ERROR(sender_->Send(first));
    return json{{"seconds", SecondsSince(begin)}};
  }

  void Load(const std::vector<int64_t>& sizes) override {
    contents_ = {};
    contents_ = FillSizes(sizes);
    fingerprint_ = Fingerprint(contents_.tensors);
  }

  absl::StatusOr<json> TakeTurn(int messages, bool) override {
    std::vector<double> seconds;
    const ProcessUsage before = ProcessUsage::Now();
    for (int i = 0; i < 1 + messages; ++i) {
      FERRY_RETURN_IF_ERROR(AwaitReady());
      const auto begin = Clock::now();
      FERRY_RETURN_IF_ERROR(sender_->Send(contents_));
      seconds.push_back(SecondsSince(begin));
    }
    json reply = UsageSince(before, 1 + messages);
    seconds.erase(seconds.begin());
    reply["seconds"] = seconds;
    reply["fingerprint"] = fingerprint_;
    return reply;
  }

  const Neighbour neighbour_;
  std::unique_ptr<Sender> sender_;
  Contents contents_;
  std::string fingerprint_;
};

class ReceivingEnd : public End {
 public:
  ReceivingEnd(std::unique_ptr<Acceptor> acceptor, int ready)
      : End(ready), acceptor_(std::move(acceptor)) {}

 private:
  absl::StatusOr<json> Connect(const std::string&) override {
    FERRY_ASSIGN_OR_RETURN(receiver_, acceptor_->Accept());
    const Contents first = LayOut({4});
    receiver_->Arm(first, /*reuse=*/false);
    FERRY_RETURN_IF_ERROR(receiver_->Take().status());
    return json::object();
  }

  // Not touched before a turn receives into them: fresh ones tell the sizes
  // only.
  void Load(const std::vector<int64_t>& sizes) override {
    own_ = {};
    own_ = LayOut(sizes);
  }

  absl::StatusOr<json> TakeTurn(int messages, bool reuse) override {
    // Last turn's bytes must not pass for this one's.
    if (reuse) Scribble(own_.tensors, ++turn_);
    std::vector<at::Tensor> taken;
    const ProcessUsage before = ProcessUsage::Now();
    for (int i = 0; i < 1 + messages; ++i) {
      taken.clear();  // while nothing is under way
      receiver_->Arm(own_, reuse);
      FERRY_RETURN_IF_ERROR(SayReady());
      FERRY_ASSIGN_OR_RETURN(taken, receiver_->Take());
    }
    json reply = UsageSince(before, 1 + messages);
    reply["fingerprint"] = Fingerprint(taken);
    return reply;
  }

  const std::unique_ptr<Acceptor> acceptor_;
  std::unique_ptr<Receiver> receiver_;
  Contents own_;
  uint8_t turn_ = 0;
};

void Say(const json& line) { std::cout << line.dump() << std::endl; }

int Fail(const absl::Status& status) {
  Say({{"error", status.ToString()}});
  return 1;
}

absl::StatusOr<std::unique_ptr<End>> MakeEnd(const std::string& name,
                                             bool sends, int ready) {
  FERRY_ASSIGN_OR_RETURN(Neighbour neighbour, Find(name));
  if (sends) return std::make_unique<SendingEnd>(std::move(neighbour), ready);
  FERRY_ASSIGN_OR_RETURN(auto acceptor, neighbour.listen());
  Say({{"address", acceptor->address()}});
  return std::make_unique<ReceivingEnd>(std::move(acceptor), ready);
}

int Run(const std::string& name, bool sends, int ready) {
  auto end = MakeEnd(name, sends, ready);
  if (!end.ok()) return Fail(end.status());
  for (std::string line; std::getline(std::cin, line);) {
    const json command = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!command.is_object()) {
      return Fail(absl::InvalidArgumentError("not a JSON object"));
    }
    auto reply = (*end)->Obey(command);
    if (!reply.ok()) return Fail(reply.status());
    Say(*reply);
  }
  // Several neighbours wait for the other side as they go; the system does not.
  std::_Exit(0);
}

}  // namespace
}  // namespace tensorferry::benchmarks

int main(int argc, char** argv) {
  int ready = -1;
  if (argc < 4 || !absl::SimpleAtoi(argv[3], &ready)) {
    std::fprintf(stderr,
                 "usage: contestant NAME|plugin:LIBRARY "
                 "sender|receiver READY\n");
    return 2;
  }
  return tensorferry::benchmarks::Run(argv[1], std::string(argv[2]) == "sender",
                                      ready);
}
