#ifndef TENSORFERRY_TESTS_RELIABILITY_REMOTE_PEER_H_
#define TENSORFERRY_TESTS_RELIABILITY_REMOTE_PEER_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tests/reliability/process_view.h"
#include "tests/testing/becomes.h"
#include "tests/testing/child_process.h"

namespace tensorferry {
namespace testing {

// A peer program in a process of its own, seen from the test that kills it.
//
//   auto server = RemotePeer::Start({"name=server"});
//   auto client = RemotePeer::Start({"control=none"});
//   auto session = (*client)->Ask("connect", (*server)->address(), "any 5000");
//   EXPECT_THAT(session.status(), IsOk());
//   (*server)->Kill();
class RemotePeer {
 private:
  struct Reply {
    absl::Status status;
    std::string text;
    absl::Time at;
  };

 public:
  // The outcome of a command, once it is there.
  class Answer {
   public:
    int64_t number() const { return number_; }
    // Waits. INTERNAL, "no answer": none came in time, or the peer is gone.
    absl::Status status(absl::Duration within = kPatience);
    std::string text();  // of an OK
    absl::Time at();     // when it came

   private:
    friend class RemotePeer;
    Answer(RemotePeer* peer, int64_t number) : peer_(peer), number_(number) {}
    RemotePeer* peer_;
    int64_t number_;
  };

  // The status with which the program refused to start, or the peer.
  static absl::StatusOr<std::unique_ptr<RemotePeer>> Start(
      const std::vector<std::string>& arguments);
  ~RemotePeer();

  const std::string& address() const { return address_; }
  pid_t pid() const { return pid_; }

  template <class... Words>
  Answer Ask(const Words&... words) {
    return AskLine(Join(words...));
  }
  // The words of the next event that starts with `what`, after those that were
  // asked for before: "ended", session, code, text. DEADLINE_EXCEEDED: none.
  struct Event {
    int64_t session = 0;
    absl::Status status;
    absl::Time at;
  };
  absl::StatusOr<Event> NextEvent(absl::string_view what,
                                  absl::Duration within = kPatience);

  void Stop();      // SIGSTOP; every thread has stopped when it returns
  void Continue();  // SIGCONT
  void Kill();      // SIGKILL; it is gone when it returns
  // Ends its input and waits: its exit code, or 128 + the signal.
  int Finish();

 private:
  explicit RemotePeer(ChildProcess process);
  template <class... Words>
  static std::string Join(const Words&... words) {
    std::string line;
    ((absl::StrAppend(&line, " ", words)), ...);
    return line;
  }
  Answer AskLine(const std::string& words);
  Reply WaitFor(int64_t number, absl::Duration within);
  void ReadLines();
  void TakeLine(const std::string& line);

  ChildProcess process_;
  const pid_t pid_;
  std::string address_;
  int64_t next_number_ = 1;

  absl::Mutex mu_;
  std::map<int64_t, Reply> replies_ ABSL_GUARDED_BY(mu_);
  std::multimap<std::string, Event> events_ ABSL_GUARDED_BY(mu_);
  bool gone_ ABSL_GUARDED_BY(mu_) = false;
  std::thread reader_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_REMOTE_PEER_H_
