#ifndef TENSORFERRY_TESTS_TRANSFER_CHILD_LINK_H_
#define TENSORFERRY_TESTS_TRANSFER_CHILD_LINK_H_

#include <functional>
#include <memory>
#include <string>

#include "tests/testing/child_process.h"
#include "tests/transfer/link_fixture.h"

namespace tensorferry {

// This process has a link to a child of its own, which is told its role.
class ChildLinkTest : public LinkTest {
 protected:
  // Returns the running child, once the link is up.
  testing::ChildProcess Meet(const std::string& role,
                             const TransferRules& rules);

  std::unique_ptr<Endpoint> endpoint_;
  std::shared_ptr<Link> link_;
  StatusOutcome down_;
};

// main of such a test: runs all tests or, in a child, `play` with its role.
int RunTestsOrChild(
    int argc, char** argv, const TransferRules& rules,
    const std::function<int(const std::string& role, Link&)>& play);

}  // namespace tensorferry

#endif  // TENSORFERRY_TESTS_TRANSFER_CHILD_LINK_H_
