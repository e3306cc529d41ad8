// A peer of another age: built with other wire versions (see BUILD.bazel).
//   wire_version_peer serve           writes its address, serves until its
//                                     standard input ends
//   wire_version_peer call ADDRESS    opens a session there, writes how it went
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "control/control_client.h"
#include "tests/control/test_peers.h"
#include "tests/testing/child_process.h"

namespace tensorferry {
namespace testing {
namespace {

void Serve() {
  FakeHost host(PeerWith("bob", {}));
  TestServer server(&host);
  WriteLine(server.address());
  AwaitInputClosed();
}

void Call(const char* address) {
  auto client = *ControlClient::Create(address);
  auto session =
      Await<ControlClient::Accepted>([&](Done<ControlClient::Accepted> done) {
        client->OpenSession(Offer(), PeerWith("alice", {}),
                            std::make_shared<HeardEvents>(), kPatience,
                            std::move(done));
      });
  WriteLine(session.ok() ? absl::StrCat("version ", session->plan.wire_version)
                         : session.status().ToString());
}

}  // namespace
}  // namespace testing
}  // namespace tensorferry

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "serve") == 0) {
    tensorferry::testing::Serve();
  } else if (argc == 3 && std::strcmp(argv[1], "call") == 0) {
    tensorferry::testing::Call(argv[2]);
  } else {
    return 2;
  }
  return 0;
}
