#ifndef TENSORFERRY_TESTS_RELIABILITY_CONTROL_PROXY_H_
#define TENSORFERRY_TESTS_RELIABILITY_CONTROL_PROXY_H_

#include <functional>
#include <memory>
#include <string>

#include "grpcpp/grpcpp.h"
#include "tensorferry/control/control.grpc.pb.h"

namespace tensorferry {
namespace testing {

// A control plane in the middle: hands on what a caller and a callee say to
// each other, but first lets the test change it.
class ControlProxy : public control::v1::Control::Service {
 public:
  // What the caller opens with, and what the callee answers. Called on threads
  // of gRPC's, which they may hold up.
  struct Hooks {
    std::function<void(control::v1::Open&)> on_open;
    std::function<void(control::v1::LaneTicket&)> on_ticket;
  };
  ControlProxy(const std::string& callee, Hooks hooks);
  ~ControlProxy() override;

  const std::string& address() const { return address_; }

 private:
  using Stream = grpc::ServerReaderWriter<control::v1::SessionResponse,
                                          control::v1::SessionRequest>;
  grpc::Status OpenSession(grpc::ServerContext* context,
                           Stream* stream) override;

  const Hooks hooks_;
  const std::unique_ptr<control::v1::Control::Stub> callee_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace testing
}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_RELIABILITY_CONTROL_PROXY_H_
