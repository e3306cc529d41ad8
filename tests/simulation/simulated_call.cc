#include "tests/simulation/simulated_call.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace tensorferry {
namespace simulation {

// What both ends have in common: operations, each of which ends with a report
// to the reactor, an event of the end's process; and what has arrived.
template <class Reactor, class Message>
class SimulatedCall::End {
 public:
  virtual ~End() = default;
  bool done() const { return done_; }

 protected:
  End(SimulatedCall* call, ProcessState* process)
      : call_(call), process_(process) {}

  // Goes on with what may go on now.
  virtual void Progress() = 0;

  void Post(std::function<void()> report) {
    EventQueue& queue = *call_->network_.queue;
    queue.At(queue.Now(), process_,
             [call = call_->shared_from_this(), report] { report(); });
  }
  // An operation is through.
  void Report(void (Reactor::*report)(bool), bool ok) {
    ++operations_;
    Post([this, report, ok] {
      --operations_;
      (reactor_->*report)(ok);
      Progress();
    });
  }
  // The read under way gets what has arrived, or, if that was all, fails.
  void ReportRead(bool all_arrived) {
    if (read_ == nullptr || (arrived_.empty() && !all_arrived)) return;
    const bool ok = !arrived_.empty();
    if (ok) {
      *read_ = std::move(arrived_.front());
      arrived_.pop_front();
    }
    read_ = nullptr;
    Report(&Reactor::OnReadDone, ok);
  }
  bool at_rest() const { return read_ == nullptr && operations_ == 0; }

  SimulatedCall* const call_;
  Reactor* reactor_ = nullptr;
  Message* read_ = nullptr;  // into which
  std::deque<Message> arrived_;
  bool done_ = false;

 private:
  ProcessState* const process_;
  int operations_ = 0;  // whose report is on the way
};

class SimulatedCall::Client final
    : public grpc::ClientCallbackReaderWriter<Request, Response>,
      public End<ClientReactor, Response> {
 public:
  explicit Client(SimulatedCall* call) : End(call, call->network_.client) {}

  void Bind(ClientReactor* reactor) {
    reactor_ = reactor;
    BindReactor(reactor);
  }

  void StartCall() override;
  void Write(const Request* request, grpc::WriteOptions) override;
  void WritesDone() override;
  void Read(Response* response) override {
    read_ = response;
    Progress();
  }
  void AddHold(int holds) override { holds_ += holds; }
  void RemoveHold() override {
    --holds_;
    Progress();
  }

  void Arrived(const Response& response) {
    if (status_) return;
    arrived_.push_back(response);
    Progress();
  }
  // The call is over for this end once it has read what came before.
  void Over(grpc::Status status) {
    if (status_) return;
    status_ = std::move(status);
    Progress();
  }

 private:
  void Progress() override;

  bool started_ = false;
  int holds_ = 0;
  std::optional<grpc::Status> status_;
};

class SimulatedCall::Server final
    : public grpc::ServerCallbackReaderWriter<Request, Response>,
      public End<ServerReactor, Request> {
 public:
  explicit Server(SimulatedCall* call) : End(call, call->network_.server) {}

  void Bind(std::shared_ptr<ServerReactor> side) {
    reactor_ = side.get();
    BindReactor(reactor_);
  }
  bool bound() const { return reactor_ != nullptr; }

  void Finish(grpc::Status status) override;
  void SendInitialMetadata() override {}
  void Read(Request* request) override {
    read_ = request;
    Progress();
  }
  void Write(const Response* response, grpc::WriteOptions) override;
  void WriteAndFinish(const Response*, grpc::WriteOptions,
                      grpc::Status) override {
    std::abort();  // not used by the service
  }

  void Arrived(const Request& request) {
    if (reads_over_) return;
    arrived_.push_back(request);
    Progress();
  }
  void ReadsOver() {
    reads_over_ = true;
    Progress();
  }
  void Broken() {
    broken_ = true;
    ReadsOver();
  }

 private:
  grpc::internal::ServerReactor* reactor() override { return reactor_; }
  void CallOnDone() override {}
  void Progress() override;

  bool reads_over_ = false, broken_ = false, finished_ = false;
};

// ---- the caller's end

void SimulatedCall::Client::StartCall() {
  started_ = true;
  call_->Carry(true, [call = call_] {
    call->network_.queue->At(
        call->network_.queue->Now(), call->network_.server,
        [self = call->shared_from_this()] { self->Accept(); });
  });
  Progress();
}

void SimulatedCall::Client::Write(const Request* request, grpc::WriteOptions) {
  const bool ok = !status_;
  if (ok) {
    call_->Carry(true, [call = call_, request = *request] {
      call->server_->Arrived(request);
    });
  }
  Report(&ClientReactor::OnWriteDone, ok);
}

void SimulatedCall::Client::WritesDone() {
  const bool ok = !status_;
  if (ok) call_->Carry(true, [call = call_] { call->server_->ReadsOver(); });
  Report(&ClientReactor::OnWritesDoneDone, ok);
}

void SimulatedCall::Client::Progress() {
  if (!started_ || done_) return;
  ReportRead(/*all_arrived=*/status_.has_value());
  if (status_ && at_rest() && holds_ == 0) {
    done_ = true;
    Post([this] { reactor_->OnDone(*status_); });
  }
}

// ---- the callee's end

void SimulatedCall::Server::Write(const Response* response,
                                  grpc::WriteOptions) {
  const bool ok = !broken_;
  if (ok) {
    call_->Carry(false, [call = call_, response = *response] {
      call->client_->Arrived(response);
    });
  }
  Report(&ServerReactor::OnWriteDone, ok);
}

void SimulatedCall::Server::Finish(grpc::Status status) {
  finished_ = true;
  reads_over_ = true;
  if (!broken_) {
    call_->Carry(false, [call = call_, status = std::move(status)] {
      call->client_->Over(status);
    });
  }
  Progress();
}

void SimulatedCall::Server::Progress() {
  if (reactor_ == nullptr || done_) return;
  ReportRead(/*all_arrived=*/reads_over_);
  if (finished_ && at_rest()) {
    done_ = true;
    Post([this] { reactor_->OnDone(); });
  }
}

// ---- the call

SimulatedCall::SimulatedCall(CallNetwork network)
    : network_(std::move(network)),
      client_(std::make_unique<Client>(this)),
      server_(std::make_unique<Server>(this)) {}

SimulatedCall::~SimulatedCall() = default;

void SimulatedCall::Accept() {
  auto side = accept_();
  accept_ = nullptr;
  if (side != nullptr) return server_->Bind(std::move(side));
  Carry(false, [this] {
    client_->Over({grpc::StatusCode::UNAVAILABLE, "nobody there"});
  });
}

void SimulatedCall::BindClient(ClientReactor* reactor) {
  client_->Bind(reactor);
}

void SimulatedCall::CancelByClient() {
  client_->Over({grpc::StatusCode::CANCELLED, "cancelled here"});
  Carry(true, [this] { server_->Broken(); });
}

void SimulatedCall::CancelByServer() {
  server_->Broken();
  Carry(false, [this] {
    client_->Over({grpc::StatusCode::CANCELLED, "cancelled there"});
  });
}

void SimulatedCall::BreakClient(grpc::Status status) {
  client_->Over(std::move(status));
}

void SimulatedCall::BreakServer() { server_->Broken(); }

bool SimulatedCall::over() const {
  return client_->done() && (server_->done() || !server_->bound());
}

void SimulatedCall::Cut(bool cut) {
  cut_ = cut;
  if (cut_) return;
  for (Waiting& waiting : std::exchange(waiting_, {})) {
    Carry(waiting.to_server, std::move(waiting.arrive));
  }
}

void SimulatedCall::Carry(bool to_server, std::function<void()> arrive) {
  if (muted_[to_server]) return;
  if (cut_) return waiting_.push_back({to_server, std::move(arrive)});
  absl::Time& last = last_arrival_[to_server];
  last = std::max(last, network_.queue->Now() + network_.delay());
  network_.queue->At(
      last, nullptr,
      [self = shared_from_this(), to_server, arrive = std::move(arrive)] {
        if (self->cut_) {
          self->waiting_.push_back({to_server, arrive});
        } else {
          arrive();
        }
      });
}

}  // namespace simulation
}  // namespace tensorferry
