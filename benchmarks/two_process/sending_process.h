#ifndef TENSORFERRY_BENCHMARKS_TWO_PROCESS_SENDING_PROCESS_H_
#define TENSORFERRY_BENCHMARKS_TWO_PROCESS_SENDING_PROCESS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "benchmarks/two_process/contestant.h"
#include "benchmarks/two_process/process_usage.h"
#include "benchmarks/two_process/workload.h"
#include "session/peer.h"
#include "tests/testing/child_process.h"

namespace tensorferry::benchmarks {

// What one contestant's turn of a round has shown.
struct Turn {
  std::vector<double> seconds;  // of each message
  // For each message, with what it takes to get ready for the next.
  ProcessUsage sender, receiver;
};

// This process, which sends, and the other, which it starts and tells when to
// receive what. All contestants are connected from the start.
class SendingProcess {
 public:
  static absl::StatusOr<std::unique_ptr<SendingProcess>> Start(
      const std::string& model);

  // Makes both sides ready for messages of `workload`.
  absl::Status Load(const std::string& workload);
  const Contents& contents() const { return contents_; }

  // Sends `messages`, one after the other, after one more that is not timed.
  // DATA_LOSS: the last one did not arrive as it was.
  absl::StatusOr<Turn> TakeTurn(const std::string& contestant,
                                const std::string& path, bool reuse,
                                int messages);

 private:
  SendingProcess(testing::ChildProcess child, std::string model)
      : child_(std::move(child)), model_(std::move(model)) {}
  absl::Status Connect();
  absl::Status Expect(const std::string& line);
  // The same where that is lent.
  absl::StatusOr<const Contents*> ContentsOf(const std::string& contestant);
  absl::Status SendTimed(Sender& sender, const Contents& contents,
                         std::vector<double>& seconds);
  absl::Status FinishTurn(ProcessUsage* receiver);

  testing::ChildProcess child_;
  const std::string model_;
  std::unique_ptr<Peer> peer_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Sender>>
      senders_;
  const std::shared_ptr<LendableMemory> memory_ = LendableMemory::Create();
  std::string loaded_;
  Contents contents_;
  std::optional<Contents> lendable_;  // in memory_, once it is needed
  std::string fingerprint_;
};

}  // namespace tensorferry::benchmarks

#endif  // TENSORFERRY_BENCHMARKS_TWO_PROCESS_SENDING_PROCESS_H_
