// Peers that speak valid gRPC and say in it what they like.
#ifndef TENSORFERRY_TESTS_CONTROL_RAW_PEER_H_
#define TENSORFERRY_TESTS_CONTROL_RAW_PEER_H_

#include <functional>
#include <memory>
#include <string>

#include "control/capabilities.h"
#include "control/offer.h"
#include "grpcpp/grpcpp.h"
#include "tensorferry/control/control.grpc.pb.h"

namespace tensorferry {
namespace testing {

namespace pb = ::tensorferry::control::v1;

// An `open` as an honest caller sends it.
pb::SessionRequest OpenMessage(const Offer& offer, const Capabilities& caller);
// The answer of an honest callee.
pb::SessionResponse AcceptedMessage(const Offer& offer,
                                    const Capabilities& caller,
                                    const Capabilities& callee);
pb::SessionRequest HeartbeatRequest();
pb::SessionResponse HeartbeatResponse();

std::unique_ptr<pb::Control::Stub> StubFor(const std::string& address);

// A caller that sends what the test says.
class RawCaller {
 public:
  // `authorization`: a header of that name; empty: none.
  explicit RawCaller(const std::string& address,
                     const std::string& authorization = "");
  ~RawCaller();

  bool Write(const pb::SessionRequest& request);
  void WritesDone() { stream_->WritesDone(); }
  void Cancel() { context_.TryCancel(); }
  // The next message that is no heartbeat; false: there is none any more.
  bool Read(pb::SessionResponse* response);
  // The next message of any kind.
  bool ReadAny(pb::SessionResponse* response) {
    return stream_->Read(response);
  }
  // Reads to the end: the status of the last goodbye, then gRPC's. Closes its
  // half at a goodbye, as honest callers do.
  struct End {
    int goodbye = -1;  // -1: none came
    std::string why;
    grpc::Status status;
  };
  End ReadToEnd();

 private:
  std::unique_ptr<pb::Control::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<pb::SessionRequest, pb::SessionResponse>>
      stream_;
  bool finished_ = false;
};

// A callee that does what the test says. Unary calls wait to be cancelled
// unless they are given an answer.
class RawCallee : public pb::Control::Service {
 public:
  using Stream =
      grpc::ServerReaderWriter<pb::SessionResponse, pb::SessionRequest>;
  RawCallee();
  ~RawCallee() override;
  const std::string& address() const { return address_; }

  // Set before calls come. Runs after `open` was read.
  std::function<grpc::Status(grpc::ServerContext*, Stream*)> on_open;
  std::function<pb::GetCapabilitiesResponse()> capabilities;
  std::function<pb::ExplainResponse()> explain;
  std::function<pb::ListSessionsResponse()> sessions;

  static grpc::Status AwaitCancelled(grpc::ServerContext* context);

 private:
  grpc::Status OpenSession(grpc::ServerContext* context,
                           Stream* stream) override;
  grpc::Status GetCapabilities(grpc::ServerContext* context,
                               const pb::GetCapabilitiesRequest* request,
                               pb::GetCapabilitiesResponse* response) override;
  grpc::Status Explain(grpc::ServerContext* context,
                       const pb::ExplainRequest* request,
                       pb::ExplainResponse* response) override;
  grpc::Status ListSessions(grpc::ServerContext* context,
                            const pb::ListSessionsRequest* request,
                            pb::ListSessionsResponse* response) override;

  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_CONTROL_RAW_PEER_H_
