#include "tests/reliability/control_proxy.h"

#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tensorferry {
namespace testing {

namespace pb = ::tensorferry::control::v1;

ControlProxy::ControlProxy(const std::string& callee, Hooks hooks)
    : hooks_(std::move(hooks)),
      callee_(pb::Control::NewStub(
          grpc::CreateChannel(callee, grpc::InsecureChannelCredentials()))) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port);
}

ControlProxy::~ControlProxy() {
  server_->Shutdown(std::chrono::system_clock::now());
}

grpc::Status ControlProxy::OpenSession(grpc::ServerContext* context,
                                       Stream* stream) {
  const std::unique_ptr<grpc::ClientContext> onward =
      grpc::ClientContext::FromServerContext(*context);
  auto callee = callee_->OpenSession(onward.get());
  std::thread up([&] {
    for (pb::SessionRequest request; stream->Read(&request);) {
      if (request.has_open() && hooks_.on_open) {
        hooks_.on_open(*request.mutable_open());
      }
      if (!callee->Write(request)) return;
    }
    callee->WritesDone();
  });
  for (pb::SessionResponse response; callee->Read(&response);) {
    if (response.has_accepted() && hooks_.on_ticket) {
      hooks_.on_ticket(*response.mutable_accepted()->mutable_ticket());
    }
    if (!stream->Write(response)) onward->TryCancel();
  }
  context->TryCancel();  // ends the thread's Read
  up.join();
  return callee->Finish();
}

}  // namespace testing
}  // namespace tensorferry
