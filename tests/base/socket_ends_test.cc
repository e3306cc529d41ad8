#include "base/socket_ends.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace tensorferry {
namespace {

template <class Address>
UniqueFd Bound(Address address) {
  const auto* name = reinterpret_cast<const sockaddr*>(&address);
  UniqueFd fd(socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (bind(fd.get(), name, sizeof(address)) != 0) return UniqueFd();
  return fd;
}

TEST(SocketEndsTest, ThePortIsTheOneThatTheSystemGave) {
  sockaddr_in v4 = {};
  v4.sin_family = AF_INET;
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const UniqueFd fd = Bound(v4);
  ASSERT_TRUE(fd.valid());
  const uint16_t port = PortOf(fd.get());
  EXPECT_NE(port, 0);
  v4.sin_port = htons(port);
  EXPECT_FALSE(Bound(v4).valid()) << "somebody has it";
}

TEST(SocketEndsTest, ThePortOfAnIpv6Socket) {
  sockaddr_in6 v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_addr = in6addr_loopback;
  const UniqueFd fd = Bound(v6);
  if (!fd.valid()) GTEST_SKIP() << "no IPv6 here";
  EXPECT_NE(PortOf(fd.get()), 0);
}

TEST(SocketEndsTest, WhoHoldsTheOtherEndIsKnownOfUnixSocketsOnly) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd one(ends[0]), other(ends[1]);
  const auto peer = PeerOfSocket(one.get());
  ASSERT_TRUE(peer.has_value());
  EXPECT_EQ(peer->pid, getpid());
  EXPECT_EQ(peer->uid, geteuid());
  EXPECT_EQ(PortOf(one.get()), 0);

  const UniqueFd tcp(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(PeerOfSocket(tcp.get()).has_value());
  EXPECT_FALSE(PeerOfSocket(-1).has_value());
  EXPECT_EQ(PortOf(-1), 0);
}

}  // namespace
}  // namespace tensorferry
