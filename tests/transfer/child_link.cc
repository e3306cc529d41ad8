#include "tests/transfer/child_link.h"

#include <gtest/gtest.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "tests/testing/status_matchers.h"

namespace tensorferry {

using testing::ChildProcess;
using testing::IsOk;

ChildProcess ChildLinkTest::Meet(const std::string& role,
                                 const TransferRules& rules) {
  EndpointOptions options;
  options.executor = &executor_;
  endpoint_ = *Endpoint::Create(options);
  StatusOutcome up;
  auto expected = endpoint_->Expect(rules, up.done(), down_.done());
  link_ = expected->link;
  auto child = ChildProcess::Start({"--child", role, expected->addresses[0],
                                    absl::BytesToHexString(expected->key)});
  EXPECT_THAT(up.Wait(), IsOk());
  return *std::move(child);
}

int RunTestsOrChild(
    int argc, char** argv, const TransferRules& rules,
    const std::function<int(const std::string& role, Link&)>& play) {
  if (argc != 5 || std::string(argv[1]) != "--child") {
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  }
  ThreadPool executor(2);
  EndpointOptions options;
  options.executor = &executor;
  auto endpoint = Endpoint::Create(options);
  if (!endpoint.ok()) return 1;
  Outcome<std::shared_ptr<Link>> dialed;
  (*endpoint)->Dial({argv[3]}, absl::HexStringToBytes(argv[4]), rules,
                    absl::Seconds(10), nullptr, dialed.done());
  absl::StatusOr<std::shared_ptr<Link>> link = dialed.Wait();
  return link.ok() ? play(argv[2], **link) : 1;
}

}  // namespace tensorferry
