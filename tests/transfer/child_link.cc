#include "tests/transfer/child_link.h"

#include <gtest/gtest.h>

#include <iostream>
#include <string>
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
  auto child = ChildProcess::Start({"--child", role});
  // It takes its time to load; a link is not expected for long.
  EXPECT_THAT(child->ReadLine(), IsOk());
  StatusOutcome up;
  auto expected = endpoint_->Expect(rules, up.done(), down_.done());
  link_ = expected->link;
  EXPECT_THAT(child->WriteLine(expected->addresses[0]), IsOk());
  EXPECT_THAT(child->WriteLine(absl::BytesToHexString(expected->key)), IsOk());
  EXPECT_THAT(up.Wait(), IsOk());
  return *std::move(child);
}

int RunTestsOrChild(
    int argc, char** argv, const TransferRules& rules,
    const std::function<int(const std::string& role, Link&)>& play) {
  if (argc != 3 || std::string(argv[1]) != "--child") {
    ::testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
  }
  ThreadPool executor(2);
  EndpointOptions options;
  options.executor = &executor;
  auto endpoint = Endpoint::Create(options);
  if (!endpoint.ok()) return 1;
  testing::WriteLine("ready");
  std::string address, key;
  if (!std::getline(std::cin, address) || !std::getline(std::cin, key)) {
    return 1;
  }
  Outcome<std::shared_ptr<Link>> dialed;
  (*endpoint)->Dial({address}, absl::HexStringToBytes(key), rules,
                    absl::Minutes(1), nullptr, dialed.done());
  absl::StatusOr<std::shared_ptr<Link>> link = dialed.Wait();
  return link.ok() ? play(argv[2], **link) : 1;
}

}  // namespace tensorferry
