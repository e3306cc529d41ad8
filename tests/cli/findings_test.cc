#include "cli/findings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <set>
#include <string>

namespace tensorferry::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(FindingsTest, EachSaysWhatWasFoundAndWhatItMeans) {
  std::set<std::string> names;
  for (const Finding& finding : CheckAll()) {
    EXPECT_TRUE(names.insert(finding.what).second) << finding.what;
    EXPECT_THAT(finding.found, Not(IsEmpty())) << finding.what;
    EXPECT_THAT(finding.meaning, Not(IsEmpty())) << finding.what;
  }
  for (const char* wanted :
       {"addresses", "process memory", "open files", "libtorch", "gpu", "shared memory"}) {
    EXPECT_EQ(names.count(wanted), 1u) << wanted;
  }
}

TEST(FindingsTest, FindsTheLibtorchThatItRunsWith) {
  const Finding finding = CheckLibtorch();
  EXPECT_EQ(finding.level, Finding::Level::kGood) << finding.found;
  EXPECT_THAT(finding.found, HasSubstr("libc10"));
}

TEST(FindingsTest, OnlyRelativesMayReadEachOtherUnderPtraceScopeOne) {
  ProcessMemory found;
  EXPECT_EQ(ExplainProcessMemory(found).level, Finding::Level::kGood);
  found.ptrace_scope = 1;
  EXPECT_EQ(ExplainProcessMemory(found).level, Finding::Level::kNote);
  EXPECT_THAT(ExplainProcessMemory(found).meaning,
              AllOf(HasSubstr("unix/local/stream"), HasSubstr("CAP_SYS_PTRACE")));
  found.of_parent = absl::PermissionDeniedError("process_vm_readv");
  EXPECT_EQ(ExplainProcessMemory(found).level, Finding::Level::kNote);
  found.of_parent = absl::OkStatus();
  found.may_trace = true;
  EXPECT_EQ(ExplainProcessMemory(found).level, Finding::Level::kGood);
  found.of_child = absl::PermissionDeniedError("process_vm_readv");
  EXPECT_THAT(ExplainProcessMemory(found).meaning, HasSubstr("seccomp"));
}

TEST(FindingsTest, FewOpenFilesAreAProblem) {
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  rlimit few = old_limit;
  few.rlim_cur = 32;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  const Finding finding = CheckOpenFiles();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old_limit), 0);
  EXPECT_EQ(finding.level, Finding::Level::kProblem);
  EXPECT_THAT(finding.found, HasSubstr("limit 32"));
  EXPECT_THAT(finding.meaning, HasSubstr("ulimit"));
}

}  // namespace
}  // namespace tensorferry::cli
