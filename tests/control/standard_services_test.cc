#include "control/standard_services.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "tests/control/test_peers.h"

namespace tensorferry {
namespace testing {
namespace {

using ::testing::HasSubstr;

// Sends `request`, the bytes of one message, and returns those of the answer.
std::string Call(const std::string& address, const std::string& method,
                 const std::string& request) {
  grpc::GenericStub stub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  grpc::Slice slice(request);
  grpc::ByteBuffer out(&slice, 1), in;
  grpc::Status status;
  absl::Notification done;
  stub.UnaryCall(&context, method, grpc::StubOptions(), &out, &in,
                 [&](grpc::Status got) {
                   status = std::move(got);
                   done.Notify();
                 });
  done.WaitForNotification();
  EXPECT_TRUE(status.ok()) << status.error_message();
  std::vector<grpc::Slice> slices;
  if (!in.Dump(&slices).ok()) return "";
  std::string answer;
  for (const grpc::Slice& part : slices) {
    answer.append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return answer;
}

TEST(StandardServicesTest, ServerAnswersHealthAndReflection) {
  EnableHealthAndReflection();
  EnableHealthAndReflection();
  FakeHost host(PeerWith("bob", {}));
  TestServer server(&host);
  // HealthCheckResponse{status: SERVING}.
  EXPECT_EQ(Call(server.address(), "/grpc.health.v1.Health/Check", ""),
            "\x08\x01");
  // ServerReflectionRequest{file_containing_symbol: (4) "tensor..."}: the
  // answer has the file's descriptor in it.
  std::string symbol = "tensorferry.control.v1.Control";
  std::string request = "\x22" + std::string(1, char(symbol.size())) + symbol;
  EXPECT_THAT(
      Call(server.address(),
           "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
           request),
      HasSubstr("GetCapabilitiesRequest"));
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry
