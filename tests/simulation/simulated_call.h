#ifndef TENSORFERRY_TESTS_SIMULATION_SIMULATED_CALL_H_
#define TENSORFERRY_TESTS_SIMULATION_SIMULATED_CALL_H_

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/time/time.h"
#include "grpcpp/support/client_callback.h"
#include "grpcpp/support/server_callback.h"
#include "grpcpp/support/status.h"
#include "tensorferry/control/control.grpc.pb.h"
#include "tests/simulation/event_queue.h"

namespace tensorferry {
namespace simulation {

// What a call needs of its world.
struct CallNetwork {
  EventQueue* queue = nullptr;
  std::function<absl::Duration()> delay;  // of one message, drawn
  ProcessState* client = nullptr;
  ProcessState* server = nullptr;
};

// One bidirectional call of the control service, as gRPC makes it but without
// gRPC: each end starts reads and writes and is told when they are through.
// Messages keep their order; they arrive late, and not while it is cut. Where a
// process ends or the connection breaks, the other end is told by Break, or
// never.
class SimulatedCall : public std::enable_shared_from_this<SimulatedCall> {
 public:
  using Request = control::v1::SessionRequest;
  using Response = control::v1::SessionResponse;
  using ClientReactor = grpc::ClientBidiReactor<Request, Response>;
  using ServerReactor = grpc::ServerBidiReactor<Request, Response>;

  explicit SimulatedCall(CallNetwork network);
  ~SimulatedCall();

  // `accept` runs once in the server's process, when the call arrives there:
  // the reactor to bind, or null if nobody serves there.
  void OnArrival(std::function<std::shared_ptr<ServerReactor>()> accept) {
    accept_ = std::move(accept);
  }

  void BindClient(ClientReactor* reactor);
  void CancelByClient();
  void CancelByServer();

  // Nothing that an end says from now on leaves it: its process is gone.
  void MuteClient() { muted_[true] = true; }
  void MuteServer() { muted_[false] = true; }
  // The ends do not reach each other; what is sent waits. Healed by false.
  void Cut(bool cut);
  // One end learns that the connection is gone.
  void BreakClient(grpc::Status status);
  void BreakServer();
  // Both ends have been told of the end.
  bool over() const;

 private:
  template <class Reactor, class Message>
  class End;
  class Client;
  class Server;
  void Accept();
  // To the other end, in order.
  void Carry(bool to_server, std::function<void()> arrive);

  const CallNetwork network_;
  std::function<std::shared_ptr<ServerReactor>()> accept_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Server> server_;
  bool cut_ = false;
  bool muted_[2] = {false, false};  // what goes to the client, to the server
  struct Waiting {
    bool to_server;
    std::function<void()> arrive;
  };
  std::deque<Waiting> waiting_;
  absl::Time last_arrival_[2] = {absl::InfinitePast(), absl::InfinitePast()};
};

}  // namespace simulation
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_SIMULATION_SIMULATED_CALL_H_
