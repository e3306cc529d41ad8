#include "benchmarks/two_process/sending_process.h"

#include <chrono>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "benchmarks/two_process/bare.h"
#include "benchmarks/two_process/ferry.h"
#include "benchmarks/two_process/process_usage.h"

namespace tensorferry::benchmarks {
namespace {

using Clock = std::chrono::steady_clock;

absl::StatusOr<std::unique_ptr<Sender>> ConnectTo(
    Peer& peer, const std::shared_ptr<LendableMemory>& memory,
    const std::string& contestant, const std::string& path,
    const std::string& control, const std::string& url) {
  if (contestant == "bare") return ConnectBare(path, url, /*packed=*/false);
  if (contestant == "bare_packed") {
    return ConnectBare(path, url, /*packed=*/true);
  }
  FerryWay way;
  way.digests = contestant == "ferry_digest";
  if (absl::StartsWith(contestant, "ferry_lease")) way.lend = memory;
  way.read = contestant == "ferry_lease_read";
  return ConnectFerry(peer, control, path, std::move(way));
}

absl::StatusOr<Contents> CopyIn(const LendableMemory& memory,
                                const Contents& contents) {
  Contents copy{{}, contents.names, contents.bytes};
  for (const at::Tensor& tensor : contents.tensors) {
    FERRY_ASSIGN_OR_RETURN(at::Tensor there,
                           memory.Empty(tensor.sizes(), tensor.scalar_type()));
    there.copy_(tensor);
    copy.tensors.push_back(std::move(there));
  }
  return copy;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SendingProcess>> SendingProcess::Start(
    const std::string& model) {
  FERRY_ASSIGN_OR_RETURN(auto child, testing::ChildProcess::Start(
                                         {"--receiver", "--model", model}));
  auto process = std::unique_ptr<SendingProcess>(
      new SendingProcess(std::move(child), model));
  PeerOptions options;
  options.name = "sender";
  options.control = "";
  FERRY_ASSIGN_OR_RETURN(process->peer_, Peer::Create(std::move(options)));
  FERRY_RETURN_IF_ERROR(process->Connect());
  return process;
}

absl::Status SendingProcess::Connect() {
  FERRY_ASSIGN_OR_RETURN(std::string line, child_.ReadLine());
  std::istringstream addresses(line);
  std::string control, url;
  addresses >> control;
  for (const std::string& path : BenchmarkPaths()) {
    addresses >> url;
    for (const Contestant& contestant : Contestants()) {
      FERRY_RETURN_IF_ERROR(child_.WriteLine(
          absl::StrCat("connect ", contestant.name, " ", path)));
      FERRY_ASSIGN_OR_RETURN(
          (senders_[{contestant.name, path}]),
          ConnectTo(*peer_, memory_, contestant.name, path, control, url));
      FERRY_RETURN_IF_ERROR(Expect("connected"));
    }
  }
  return absl::OkStatus();
}

absl::Status SendingProcess::Expect(const std::string& line) {
  FERRY_ASSIGN_OR_RETURN(std::string got, child_.ReadLine());
  if (got == line) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the receiver says '", got, "' instead of '", line, "'"));
}

absl::Status SendingProcess::Load(const std::string& workload) {
  if (loaded_ == workload) return absl::OkStatus();
  contents_ = {};
  lendable_ = std::nullopt;
  FERRY_RETURN_IF_ERROR(child_.WriteLine(absl::StrCat("load ", workload)));
  FERRY_ASSIGN_OR_RETURN(contents_, Fill(workload, model_));
  fingerprint_ = Fingerprint(contents_.tensors);
  loaded_ = workload;
  return Expect("loaded");
}

absl::StatusOr<Turn> SendingProcess::TakeTurn(const std::string& contestant,
                                              const std::string& path,
                                              bool reuse, int messages) {
  Sender& sender = *senders_[{contestant, path}];
  FERRY_ASSIGN_OR_RETURN(const Contents* contents, ContentsOf(contestant));
  const int all = 1 + messages;
  FERRY_RETURN_IF_ERROR(child_.WriteLine(absl::StrCat(
      "turn ", contestant, " ", path, reuse ? " reuse " : " fresh ", all)));
  Turn turn;
  const ProcessUsage before = ProcessUsage::Now();
  for (int i = 0; i < all; ++i) {
    FERRY_RETURN_IF_ERROR(SendTimed(sender, *contents, turn.seconds));
  }
  turn.sender = ProcessUsage::Now().Each(before, all);
  turn.seconds.erase(turn.seconds.begin());
  FERRY_RETURN_IF_ERROR(FinishTurn(&turn.receiver));
  return turn;
}

absl::StatusOr<const Contents*> SendingProcess::ContentsOf(
    const std::string& contestant) {
  if (!absl::StartsWith(contestant, "ferry_lease")) return &contents_;
  if (!lendable_) {
    FERRY_ASSIGN_OR_RETURN(lendable_, CopyIn(*memory_, contents_));
  }
  return &*lendable_;
}

absl::Status SendingProcess::SendTimed(Sender& sender, const Contents& contents,
                                       std::vector<double>& seconds) {
  FERRY_RETURN_IF_ERROR(Expect("armed"));
  const auto begin = Clock::now();
  FERRY_RETURN_IF_ERROR(sender.Send(contents));
  seconds.push_back(
      std::chrono::duration<double>(Clock::now() - begin).count());
  return absl::OkStatus();
}

absl::Status SendingProcess::FinishTurn(ProcessUsage* receiver) {
  FERRY_ASSIGN_OR_RETURN(std::string line, child_.ReadLine());
  std::istringstream words(line);
  std::string verb, fingerprint;
  if (!(words >> verb >> receiver->cpu_seconds >> receiver->context_switches >>
        fingerprint) ||
      verb != "took") {
    return absl::InternalError(absl::StrCat("the receiver says '", line, "'"));
  }
  if (fingerprint == fingerprint_) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the receiver has ", fingerprint,
                                          ", sent was ", fingerprint_));
}

}  // namespace tensorferry::benchmarks
