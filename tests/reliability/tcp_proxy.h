#ifndef TENSORFERRY_TESTS_RELIABILITY_TCP_PROXY_H_
#define TENSORFERRY_TESTS_RELIABILITY_TCP_PROXY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "tests/reliability/process_view.h"
#include "tests/reliability/raw_socket.h"

namespace tensorferry {
namespace testing {

// A man in the middle: a port on 127.0.0.1 that leads to another socket, whose
// connections can be reset, frozen, read and changed. Thread-safe.
class TcpProxy {
 public:
  // Looks at bytes on their way from the dialing side to the target, `offset`
  // of them after the first of its connection, and may change them. False: the
  // connection ends, both ways, once they are through.
  using Tamper =
      std::function<bool(int connection, uint64_t offset, std::string& bytes)>;

  explicit TcpProxy(ListeningSocket target, Tamper tamper = nullptr);
  ~TcpProxy();

  int port() const { return listener_.port(); }
  std::string address() const;
  void Reset();   // ends all connections with RST; new ones are taken
  void Freeze();  // from now on no byte moves, and nobody is told
  void Refuse();  // as Reset, and new ones get the same
  int connections() const { return accepted_; }  // so far

 private:
  struct Relay {
    RawSocket dialer, target;
    int number;
    uint64_t offset = 0;  // from the dialer
    bool over = false;
  };
  void Work();
  void TakeOne();
  void Pass(Relay& relay, bool from_dialer);
  void EndAll();

  const ListeningSocket target_;
  const Tamper tamper_;
  RawListener listener_;
  std::atomic<bool> stopping_{false}, frozen_{false}, refusing_{false};
  std::atomic<int> accepted_{0};
  absl::Mutex mu_;
  std::list<Relay> relays_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_TCP_PROXY_H_
