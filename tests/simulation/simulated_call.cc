#include "tests/simulation/simulated_call.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace tensorferry {
namespace simulation {

// The caller's end. Every report to the reactor is an event of its process.
class SimulatedCall::Client final
    : public grpc::ClientCallbackReaderWriter<Request, Response> {
 public:
  explicit Client(SimulatedCall* call) : call_(call) {}

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
  bool done() const { return done_; }

 private:
  void Post(std::function<void()> report) {
    call_->network_.queue->At(
        call_->network_.queue->Now(), call_->network_.client,
        [call = call_->shared_from_this(), report] { report(); });
  }
  void Progress();

  SimulatedCall* const call_;
  ClientReactor* reactor_ = nullptr;
  bool started_ = false, done_ = false;
  int holds_ = 0, operations_ = 0;  // whose report is on the way
  Response* read_ = nullptr;
  std::deque<Response> arrived_;
  std::optional<grpc::Status> status_;
};

class SimulatedCall::Server final
    : public grpc::ServerCallbackReaderWriter<Request, Response> {
 public:
  explicit Server(SimulatedCall* call) : call_(call) {}

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
  bool done() const { return done_; }

 private:
  grpc::internal::ServerReactor* reactor() override { return reactor_; }
  void CallOnDone() override {}

  void Post(std::function<void()> report) {
    call_->network_.queue->At(
        call_->network_.queue->Now(), call_->network_.server,
        [call = call_->shared_from_this(), report] { report(); });
  }
  void Progress();

  SimulatedCall* const call_;
  ServerReactor* reactor_ = nullptr;
  bool reads_over_ = false, broken_ = false, finished_ = false, done_ = false;
  int operations_ = 0;  // whose report is on the way
  Request* read_ = nullptr;
  std::deque<Request> arrived_;
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
  ++operations_;
  const bool ok = !status_;
  if (ok) {
    call_->Carry(true, [call = call_, request = *request] {
      call->server_->Arrived(request);
    });
  }
  Post([this, ok] {
    --operations_;
    reactor_->OnWriteDone(ok);
    Progress();
  });
}

void SimulatedCall::Client::WritesDone() {
  ++operations_;
  const bool ok = !status_;
  if (ok) call_->Carry(true, [call = call_] { call->server_->ReadsOver(); });
  Post([this, ok] {
    --operations_;
    reactor_->OnWritesDoneDone(ok);
    Progress();
  });
}

void SimulatedCall::Client::Progress() {
  if (!started_ || done_) return;
  if (read_ != nullptr && (!arrived_.empty() || status_)) {
    ++operations_;
    const bool ok = !arrived_.empty();
    if (ok) {
      *read_ = std::move(arrived_.front());
      arrived_.pop_front();
    }
    read_ = nullptr;
    Post([this, ok] {
      --operations_;
      reactor_->OnReadDone(ok);
      Progress();
    });
  }
  if (status_ && read_ == nullptr && operations_ == 0 && holds_ == 0) {
    done_ = true;
    Post([this] { reactor_->OnDone(*status_); });
  }
}

// ---- the callee's end

void SimulatedCall::Server::Write(const Response* response,
                                  grpc::WriteOptions) {
  ++operations_;
  const bool ok = !broken_;
  if (ok) {
    call_->Carry(false, [call = call_, response = *response] {
      call->client_->Arrived(response);
    });
  }
  Post([this, ok] {
    --operations_;
    reactor_->OnWriteDone(ok);
    Progress();
  });
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
  if (read_ != nullptr && (!arrived_.empty() || reads_over_)) {
    ++operations_;
    const bool ok = !arrived_.empty();
    if (ok) {
      *read_ = std::move(arrived_.front());
      arrived_.pop_front();
    }
    read_ = nullptr;
    Post([this, ok] {
      --operations_;
      reactor_->OnReadDone(ok);
      Progress();
    });
  }
  if (finished_ && read_ == nullptr && operations_ == 0) {
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
