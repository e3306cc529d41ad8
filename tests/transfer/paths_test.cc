#include "transfer/paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Reach = ChannelBackend::Reach;

TEST(PathsTest, WiresComeFirstThenChannelsInAUniqueOrder) {
  std::vector<std::string> names;
  int last = 1 << 30;
  for (const PathInfo& path : Paths(BackendRegistry::Global(), false)) {
    names.push_back(path.name);
    EXPECT_LT(path.priority, last) << path.name;
    last = path.priority;
  }
  EXPECT_THAT(
      names, ElementsAre("unix/local", "unix/basic", "tcp/basic", "tls/basic"));
}

TEST(PathsTest, ReachIsTheNarrowerOfWireAndChannel) {
  for (bool plaintext : {false, true}) {
    std::map<std::string, Reach> reach;
    for (const PathInfo& path : Paths(BackendRegistry::Global(), plaintext)) {
      reach[path.name] = path.reach;
    }
    EXPECT_EQ(reach["unix/local"], Reach::kSameHostAndUser);
    EXPECT_EQ(reach["unix/basic"], Reach::kSameHostAndUser);
    EXPECT_EQ(reach["tcp/basic"],
              plaintext ? Reach::kAnywhere : Reach::kSameHost);
    EXPECT_EQ(reach["tls/basic"], Reach::kAnywhere);
  }
}

TEST(PathsTest, AChannelForSeveralPairsOfDeviceTypesIsAPathForEach) {
  BackendRegistry registry;
  ASSERT_THAT(registry.Register({.name = "staged",
                                 .carries = {{"gpu", "cpu"}, {"cpu", "gpu"}},
                                 .only_on_unix = true,
                                 .opens_device = true,
                                 .only_if_named = true}),
              IsOk());
  std::vector<std::string> pairs;
  for (const PathInfo& path : Paths(registry, false)) {
    EXPECT_EQ(path.name, "unix/staged");
    EXPECT_TRUE(path.opens_device);
    EXPECT_TRUE(path.only_if_named);
    pairs.push_back(path.from_type + ">" + path.to_type);
  }
  EXPECT_THAT(pairs, ElementsAre("gpu>cpu", "cpu>gpu"));
}

TEST(PathsTest, NoWireWidensTheReachOfOneProcess) {
  BackendRegistry registry;
  ASSERT_THAT(
      registry.Register({.name = "inside", .reach = Reach::kSameProcess}),
      IsOk());
  for (const PathInfo& path : Paths(registry, true)) {
    EXPECT_EQ(path.reach, Reach::kSameProcess) << path.name;
  }
}

TEST(PathsTest, WiresOfPathsAreNamedOnceInTheirOrder) {
  EXPECT_THAT(WiresOf({"tls/basic", "pigeon/basic", "unix/local", "unix/basic",
                       "tls/x"}),
              ElementsAre(Wire::kTls, Wire::kUnix));
}

TEST(BackendRegistryTest, NamesAndPrioritiesAreTakenOnce) {
  BackendRegistry registry;
  EXPECT_THAT(registry.Register({.name = "a", .priority = 1}), IsOk());
  EXPECT_THAT(registry.Register({.name = "a", .priority = 2}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(registry.Register({.name = "b", .priority = 1}),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("\"a\"")));
  EXPECT_THAT(registry.Register({.name = "b", .priority = 10000}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace tensorferry
