#include "tests/cuda/child_peer.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <iostream>

#include "base/status_macros.h"
#include "session/peer.h"

namespace tensorferry {
namespace testing {

absl::StatusOr<ChildPeer> ChildPeer::Start() {
  FERRY_ASSIGN_OR_RETURN(ChildProcess process,
                         ChildProcess::Start({kChildPeer}));
  ChildPeer child(std::move(process));
  FERRY_ASSIGN_OR_RETURN(child.address_, child.process_.ReadLine());
  return child;
}

ChildPeer::~ChildPeer() {
  if (process_.pid() < 0) return;  // moved, or killed
  process_.CloseInput();
  EXPECT_EQ(process_.Wait(), 0);
}

std::string ChildPeer::Ask(const std::string& line) {
  absl::Status written = process_.WriteLine(line);
  if (!written.ok()) return written.ToString();
  absl::StatusOr<std::string> answer = process_.ReadLine();
  return answer.ok() ? *answer : answer.status().ToString();
}

void ChildPeer::Kill() {
  process_.Signal(SIGKILL);
  process_.Wait();
}

void DropAll(const std::shared_ptr<Session>& session) {
  session->Handle(1, [](Session&, Received) {}).IgnoreError();
  session->OnEnd([session](SessionReport) {});
}

int ServeAsChild(
    const std::function<void(std::shared_ptr<Session>)>& on_session,
    const std::function<std::string(const std::string& line)>& answer) {
  auto peer = Peer::Create({.name = "child"});
  if (!peer.ok()) {
    WriteLine(peer.status().ToString());
    return 1;
  }
  (*peer)->Accept(on_session);
  WriteLine((*peer)->control_address());
  std::string line;
  while (std::getline(std::cin, line)) WriteLine(answer(line));
  return 0;
}

}  // namespace testing
}  // namespace tensorferry
