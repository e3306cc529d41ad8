#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/status_macros.h"
#include "benchmarks/neighbours/neighbour.h"
#include "benchmarks/two_process/workload.h"
#include "tensorferry/benchmarks/neighbours/stream.grpc.pb.h"

namespace tensorferry::benchmarks {
namespace {

constexpr size_t kPieceBytes = 2 << 20;

class GrpcSender : public Sender {
 public:
  explicit GrpcSender(const std::string& address) {
    stub_ = TensorStream::NewStub(
        grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    stream_ = stub_->Move(&context_);
  }
  ~GrpcSender() override {
    stream_->WritesDone();
    (void)stream_->Finish();
  }

  absl::Status Send(const Contents& contents) override {
    Pieces pieces;
    size_t room = kPieceBytes;
    for (size_t i = 0; i < contents.tensors.size(); ++i) {
      const auto* data =
          static_cast<const char*>(contents.tensors[i].const_data_ptr());
      const size_t nbytes = contents.tensors[i].nbytes();
      for (size_t at = 0; at < nbytes;) {
        const size_t part = std::min(room, nbytes - at);
        Piece* piece = pieces.add_pieces();
        piece->set_tensor(i);
        piece->set_offset(at);
        piece->set_data(data + at, part);
        at += part;
        room -= part;
        if (room > 0) continue;
        FERRY_RETURN_IF_ERROR(Write(pieces));
        pieces.Clear();
        room = kPieceBytes;
      }
    }
    pieces.set_last(true);
    FERRY_RETURN_IF_ERROR(Write(pieces));
    Arrived arrived;
    if (stream_->Read(&arrived)) return absl::OkStatus();
    return absl::UnavailableError("no answer");
  }

 private:
  absl::Status Write(const Pieces& pieces) {
    if (stream_->Write(pieces)) return absl::OkStatus();
    return absl::UnavailableError("the stream has ended");
  }

  grpc::ClientContext context_;
  std::unique_ptr<TensorStream::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<Pieces, Arrived>> stream_;
};

// One call of Move: its thread receives, and waits between messages.
class Inbox {
 public:
  void Arm(const Contents& like, bool reuse) {
    absl::MutexLock lock(&mu_);
    like_ = &like;
    reuse_ = reuse;
    done_ = false;
  }

  std::vector<at::Tensor> Take() {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(&done_));
    return std::move(tensors_);
  }

  grpc::Status Serve(grpc::ServerReaderWriter<Arrived, Pieces>& stream) {
    Pieces pieces;
    while (stream.Read(&pieces)) {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(
          +[](Inbox* self) { return self->like_ != nullptr; }, this));
      if (tensors_.empty()) {
        tensors_ = reuse_ ? like_->tensors : FreshLike(like_->tensors);
      }
      for (const Piece& piece : pieces.pieces()) Store(piece);
      if (!pieces.last()) continue;
      like_ = nullptr;
      stream.Write(Arrived());
      done_ = true;
    }
    return grpc::Status::OK;
  }

 private:
  // Trusts the other process, as bare tensorpipe's turn does.
  void Store(const Piece& piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    auto* data =
        static_cast<char*>(tensors_[piece.tensor()].mutable_data_ptr());
    std::memcpy(data + piece.offset(), piece.data().data(),
                piece.data().size());
  }

  absl::Mutex mu_;
  const Contents* like_ ABSL_GUARDED_BY(mu_) = nullptr;  // null: not armed
  bool reuse_ ABSL_GUARDED_BY(mu_) = false;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<at::Tensor> tensors_ ABSL_GUARDED_BY(mu_);
};

class GrpcReceiver : public Receiver {
 public:
  explicit GrpcReceiver(Inbox* inbox) : inbox_(inbox) {}
  void Arm(const Contents& like, bool reuse) override {
    inbox_->Arm(like, reuse);
  }
  absl::StatusOr<std::vector<at::Tensor>> Take() override {
    return inbox_->Take();
  }

 private:
  Inbox* const inbox_;
};

class GrpcAcceptor : public Acceptor, TensorStream::Service {
 public:
  explicit GrpcAcceptor(const std::string& listen_on) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(listen_on, grpc::InsecureServerCredentials(),
                             &port);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = port > 1 ? absl::StrCat("127.0.0.1:", port) : listen_on;
  }
  ~GrpcAcceptor() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }

  bool listens() const { return server_ != nullptr; }
  const std::string& address() const override { return address_; }

  absl::StatusOr<std::unique_ptr<Receiver>> Accept() override {
    return std::make_unique<GrpcReceiver>(&inbox_);
  }

 private:
  grpc::Status Move(
      grpc::ServerContext*,
      grpc::ServerReaderWriter<Arrived, Pieces>* stream) override {
    return inbox_.Serve(*stream);
  }

  Inbox inbox_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace

Neighbour GrpcNeighbour(std::string listen_on) {
  return {.listen = [=]() -> absl::StatusOr<std::unique_ptr<Acceptor>> {
            auto acceptor = std::make_unique<GrpcAcceptor>(listen_on);
            if (acceptor->listens()) return acceptor;
            return absl::UnavailableError(
                absl::StrCat("gRPC cannot listen on ", listen_on));
          },
          .connect = [](const std::string& address)
              -> absl::StatusOr<std::unique_ptr<Sender>> {
            return std::make_unique<GrpcSender>(address);
          }};
}

}  // namespace tensorferry::benchmarks
