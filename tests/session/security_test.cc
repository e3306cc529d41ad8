// Who gets in: peers in one process, over real TLS, tokens and unix sockets.
#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "control/authorizer.h"
#include "control/policy_file.h"
#include "session/blocking.h"
#include "session/peer.h"
#include "tests/testing/certificates.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/test_folder.h"

namespace tensorferry {
namespace {

using ::tensorferry::testing::CertificateAuthority;
using ::tensorferry::testing::IsOk;
using ::tensorferry::testing::StatusIs;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr absl::Duration kPatience = absl::Seconds(30);
// sha256sum of "secret".
constexpr char kSecretHash[] =
    "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

// A folder with a server's and two clients' certificates, and tokens.
class SecurityTest : public ::testing::Test, protected testing::TestFolder {
 protected:
  SecurityTest() : TestFolder(kForSockets) {}
  void SetUp() override {
    ca_.WriteCertificate(Path("ca.pem"));
    other_ca_.WriteCertificate(Path("other_ca.pem"));
    ca_.Issue("server", "DNS:localhost,IP:127.0.0.1", Path("server.pem"),
              Path("server.key"));
    ca_.Issue("ignored", "DNS:trainer.example", Path("trainer.pem"),
              Path("trainer.key"));
    other_ca_.Issue("stranger", "", Path("stranger.pem"), Path("stranger.key"));
    Write("tokens", absl::StrCat("ci ", kSecretHash, "\n"));
    Write("token", "secret\n");
    Write("bad_token", "guess\n");
  }
  void TearDown() override { Stop(); }

  ServerSecurity TlsServer() const {
    ServerSecurity security;
    security.tls_cert = Path("server.pem");
    security.tls_key = Path("server.key");
    security.certificate_reload = absl::Seconds(1);
    return security;
  }
  ServerSecurity MutualServer() const {
    ServerSecurity security = TlsServer();
    security.tls_client_ca = Path("ca.pem");
    return security;
  }
  ClientSecurity TlsClient(const std::string& certificate = "") const {
    ClientSecurity security;
    security.tls_ca = Path("ca.pem");
    if (certificate.empty()) return security;
    security.tls_cert = Path(certificate + ".pem");
    security.tls_key = Path(certificate + ".key");
    return security;
  }
  ClientSecurity TokenClient(const std::string& file) const {
    ClientSecurity security;
    security.token_file = Path(file);
    return security;
  }
  std::shared_ptr<PolicyFile> PolicyOf(const std::string& text) {
    Write("policy", text);
    auto file = PolicyFile::Open(Path("policy"));
    EXPECT_THAT(file, IsOk());
    return *file;
  }

  void Serve(ServerSecurity security,
             const std::string& control = "127.0.0.1:0") {
    auto callee = Peer::Create(
        {.name = "callee", .control = control, .security = security});
    ASSERT_THAT(callee, IsOk());
    callee_ = *std::move(callee);
    callee_->Accept([this](std::shared_ptr<Session> session) {
      absl::MutexLock lock(&mu_);
      principals_ = session->remote_identity().principals;
      accepted_.push_back(std::move(session));
    });
  }
  void Stop() {
    sessions_.clear();
    std::vector<std::shared_ptr<Session>> accepted;
    {
      absl::MutexLock lock(&mu_);
      accepted.swap(accepted_);
    }
    accepted.clear();
    callee_.reset();
  }
  // Opens a session and keeps it.
  absl::Status Connect(ClientSecurity security,
                       absl::Duration timeout = kPatience) {
    auto caller = Peer::Create(
        {.name = "caller", .control = "", .client_security = security});
    if (!caller.ok()) return caller.status();
    auto session =
        blocking::Connect(**caller, callee_->control_address(), {}, timeout);
    if (!session.ok()) return session.status();
    sessions_.push_back({*std::move(caller), *std::move(session)});
    return absl::OkStatus();
  }
  // Of the session that was accepted last; waits for one.
  std::vector<std::string> Principals() {
    absl::MutexLock lock(&mu_);
    mu_.AwaitWithTimeout(
        absl::Condition(
            +[](std::vector<std::string>* all) { return !all->empty(); },
            &principals_),
        kPatience);
    return principals_;
  }

  struct Open {
    std::unique_ptr<Peer> peer;
    std::shared_ptr<Session> session;
  };
  const CertificateAuthority ca_{"ca"}, other_ca_{"other ca"};
  std::unique_ptr<Peer> callee_;
  std::vector<Open> sessions_;
  absl::Mutex mu_;
  std::vector<std::shared_ptr<Session>> accepted_;
  std::vector<std::string> principals_;  // of the last that was accepted
};

TEST_F(SecurityTest, ACertificateOfTheCaGetsInAndNamesTheCaller) {
  Serve(MutualServer());
  EXPECT_THAT(Connect(TlsClient("trainer")), IsOk());
  const auto records = callee_->ListSessions();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].identity, "cert:trainer.example");
}

TEST_F(SecurityTest, WithoutAlternativeNamesTheCommonNameCounts) {
  ca_.Issue("plain name", "", Path("cn.pem"), Path("cn.key"));
  Serve(MutualServer());
  EXPECT_THAT(Connect(TlsClient("cn")), IsOk());
  ASSERT_EQ(callee_->ListSessions().size(), 1u);
  EXPECT_EQ(callee_->ListSessions()[0].identity, "cert:plain name");
}

TEST_F(SecurityTest, WithoutTheRightCertificateNobodyGetsIn) {
  Serve(MutualServer());
  EXPECT_THAT(Connect(TlsClient()), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(Connect(TlsClient("stranger")),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(callee_->ListSessions().size(), 0u);
}

TEST_F(SecurityTest, APlainTextClientIsToldOfTls) {
  Serve(MutualServer());
  EXPECT_THAT(Connect({}),
              StatusIs(absl::StatusCode::kUnavailable,
                       AnyOf(HasSubstr("tls_ca"), HasSubstr("closed"))));
}

TEST_F(SecurityTest, AServerOfAnotherCaIsNotTrusted) {
  Serve(MutualServer());
  ClientSecurity client = TlsClient("trainer");
  client.tls_ca = Path("other_ca.pem");
  EXPECT_THAT(Connect(client),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("certificate verify failed")));
}

TEST_F(SecurityTest, TheNameInTheServersCertificateIsChecked) {
  Serve(MutualServer());
  ClientSecurity client = TlsClient("trainer");
  client.server_name = "elsewhere.example";
  EXPECT_THAT(Connect(client), StatusIs(absl::StatusCode::kUnavailable));
  client.server_name = "localhost";
  EXPECT_THAT(Connect(client), IsOk());
}

TEST_F(SecurityTest, WithATokenFileTooEitherWillDo) {
  ServerSecurity security = MutualServer();
  security.token_file = Path("tokens");
  Serve(security);
  EXPECT_THAT(Connect(TlsClient("trainer")), IsOk());
  ClientSecurity by_token = TlsClient();
  by_token.token_file = Path("token");
  EXPECT_THAT(Connect(by_token), IsOk());
  EXPECT_THAT(Connect(TlsClient()),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       AllOf(HasSubstr("certificate"), HasSubstr("token"))));
}

TEST_F(SecurityTest, ATokenGetsInAndNamesTheCaller) {
  ServerSecurity security;
  security.token_file = Path("tokens");
  Serve(security);
  EXPECT_THAT(Connect(TokenClient("token")), IsOk());
  EXPECT_THAT(Principals(), ElementsAre("token:ci"));
  EXPECT_THAT(Connect({}), StatusIs(absl::StatusCode::kUnauthenticated,
                                    HasSubstr("no token")));
  EXPECT_THAT(Connect(TokenClient("bad_token")),
              StatusIs(absl::StatusCode::kUnauthenticated,
                       AllOf(HasSubstr("none that this peer knows"),
                             Not(HasSubstr("guess")))));
}

TEST_F(SecurityTest, ATokenThatIsTakenOutOfTheFileIsVoid) {
  ServerSecurity security;
  security.token_file = Path("tokens");
  Serve(security);
  EXPECT_THAT(Connect(TokenClient("token")), IsOk());
  Write("tokens", "# nobody\n");
  EXPECT_THAT(Connect(TokenClient("token")),
              StatusIs(absl::StatusCode::kUnauthenticated));
}

TEST_F(SecurityTest, ATokenNeverLeavesTheHostInPlainText) {
  Serve({});
  auto caller = Peer::Create({.name = "caller",
                              .control = "",
                              .client_security = TokenClient("token")});
  ASSERT_THAT(caller, IsOk());
  EXPECT_THAT(
      blocking::Connect(**caller, "192.0.2.1:1", {}, kPatience),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("tls_ca")));
}

// The two are replaced together, by renaming; new connections see the new ones.
TEST_F(SecurityTest, CertificatesAreReplacedWhileItServes) {
  Serve(MutualServer());
  EXPECT_THAT(Connect(TlsClient("trainer")), IsOk());
  other_ca_.Issue("server", "IP:127.0.0.1", Path("server.pem"),
                  Path("server.key"));
  other_ca_.WriteCertificate(Path("ca.pem"));
  other_ca_.Issue("new", "DNS:new.example", Path("new.pem"), Path("new.key"));
  const absl::Time end = absl::Now() + kPatience;
  absl::Status connected;
  do {  // until the files have been looked at
    connected = Connect(TlsClient("new"));
  } while (absl::IsUnavailable(connected) && absl::Now() < end);
  EXPECT_THAT(connected, IsOk());
  // The old authority is trusted no longer.
  ClientSecurity old = TlsClient("trainer");
  EXPECT_THAT(Connect(old), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_EQ(callee_->ListSessions().size(), 2u);
}

TEST_F(SecurityTest, BehindAUnixSocketTheUserIsKnown) {
  Serve({}, absl::StrCat("unix:", Path("sock")));
  EXPECT_THAT(Connect({}), IsOk());
  ASSERT_EQ(callee_->ListSessions().size(), 1u);
  EXPECT_EQ(callee_->ListSessions()[0].identity,
            absl::StrCat("uid:", geteuid()));
  struct stat found = {};
  ASSERT_EQ(stat(Path("sock").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  Stop();
  EXPECT_FALSE(std::filesystem::exists(Path("sock")));
}

constexpr uid_t kNobody = 65534;

// In a child that becomes another user: whether the server keeps its
// connection, which it shows by sending the first bytes of HTTP/2. Nothing: the
// child cannot be somebody else.
std::optional<bool> IsLetIn(uid_t uid, const std::string& path) {
  constexpr int kLetIn = 0, kKeptOut = 1, kStillMe = 2;
  const pid_t child = fork();
  if (child == 0) {
    if (setresuid(uid, uid, uid) != 0) _exit(kStillMe);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    path.copy(name.sun_path, sizeof(name.sun_path) - 1);
    char byte = 0;
    const bool kept =
        connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0 &&
        read(fd, &byte, 1) == 1;
    _exit(kept ? kLetIn : kKeptOut);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) == kStillMe) return {};
  return WEXITSTATUS(status) == kLetIn;
}

TEST_F(SecurityTest, OtherUsersNeedARuleToComeInThroughAUnixSocket) {
  std::filesystem::permissions(path(), std::filesystem::perms(0755));
  ServerSecurity security;
  security.unix_mode = 0666;
  Serve(security, absl::StrCat("unix:", Path("sock")));
  const std::optional<bool> let_in = IsLetIn(kNobody, Path("sock"));
  if (!let_in) GTEST_SKIP() << "only root can be somebody else";
  EXPECT_FALSE(*let_in);
  Stop();
  security.authorizer = PolicyOf("rules { who: \"uid:65534\" sessions: 1 }");
  Serve(security, absl::StrCat("unix:", Path("sock")));
  EXPECT_EQ(IsLetIn(kNobody, Path("sock")), true);
}

class ThrowsAtOthers : public Authorizer {
 public:
  Grants GrantsOf(const Identity& identity) const override {
    if (ToString(identity) == absl::StrCat("uid:", geteuid())) {
      return Grants::All();
    }
    throw std::runtime_error("who is that?");
  }
};

TEST_F(SecurityTest, AUserAtWhomTheAuthorizerThrowsIsKeptOut) {
  std::filesystem::permissions(path(), std::filesystem::perms(0755));
  ServerSecurity security;
  security.unix_mode = 0666;
  security.authorizer = std::make_shared<const ThrowsAtOthers>();
  Serve(security, absl::StrCat("unix:", Path("sock")));
  const std::optional<bool> let_in = IsLetIn(kNobody, Path("sock"));
  if (!let_in) GTEST_SKIP() << "only root can be somebody else";
  EXPECT_FALSE(*let_in);
  EXPECT_THAT(Connect({}), IsOk());
}

TEST_F(SecurityTest, ManyOtherUsersDoNotKeepOurOwnOut) {
  std::filesystem::permissions(path(), std::filesystem::perms(0755));
  ServerSecurity security;
  security.unix_mode = 0666;
  security.authorizer =
      PolicyOf("rules { who: \"uid:*\" sessions: 9 devices: \"cpu\" }");
  Serve(security, absl::StrCat("unix:", Path("sock")));
  constexpr uid_t kFirst = 60'000, kOthers = 15;
  for (uid_t uid = kFirst; uid < kFirst + kOthers; ++uid) {
    const std::optional<bool> let_in = IsLetIn(uid, Path("sock"));
    if (!let_in) GTEST_SKIP() << "only root can be somebody else";
    EXPECT_TRUE(*let_in) << uid;
  }
  EXPECT_EQ(IsLetIn(kFirst + kOthers, Path("sock")), false);
  EXPECT_EQ(IsLetIn(kFirst, Path("sock")), true);
  EXPECT_THAT(Connect({}), IsOk());
}

TEST_F(SecurityTest, ATokenGoesToAUnixSocketOfOurOwn) {
  ServerSecurity security;
  security.token_file = Path("tokens");
  Serve(security, absl::StrCat("unix:", Path("sock")));
  EXPECT_THAT(Connect(TokenClient("token")), IsOk());
  EXPECT_THAT(Principals(),
              ElementsAre("token:ci", absl::StrCat("uid:", geteuid())));
}

TEST_F(SecurityTest, ATokenIsNotSentToAnotherUsersUnixSocket) {
  std::filesystem::permissions(path(), std::filesystem::perms(0777));
  int listening[2];
  ASSERT_EQ(pipe(listening), 0);
  const pid_t child = fork();
  if (child == 0) {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un name = {};
    name.sun_family = AF_UNIX;
    Path("sock").copy(name.sun_path, sizeof(name.sun_path) - 1);
    const bool listens =
        setresuid(kNobody, kNobody, kNobody) == 0 &&
        bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0 &&
        listen(fd, 1) == 0;
    if (!listens || write(listening[1], "1", 1) != 1) _exit(1);
    pause();
  }
  close(listening[1]);
  char byte = 0;
  const bool listens = read(listening[0], &byte, 1) == 1;
  close(listening[0]);
  auto caller = Peer::Create({.name = "caller",
                              .control = "",
                              .client_security = TokenClient("token")});
  ASSERT_THAT(caller, IsOk());
  const auto session = blocking::Connect(
      **caller, absl::StrCat("unix:", Path("sock")), {}, kPatience);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  if (!listens) GTEST_SKIP() << "only root can be somebody else";
  EXPECT_THAT(session, StatusIs(absl::StatusCode::kPermissionDenied,
                                AllOf(HasSubstr("user 65534"),
                                      HasSubstr("the token is not sent"))));
}

TEST_F(SecurityTest, TheAuthorizerDecidesAndIsAskedAnew) {
  ServerSecurity security;
  security.token_file = Path("tokens");
  security.authorizer =
      PolicyOf("rules { who: \"token:ci\" sessions: 1 devices: \"cpu\" }");
  Serve(security);
  EXPECT_THAT(Connect(TokenClient("token")), IsOk());
  EXPECT_THAT(Connect(TokenClient("token")),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("token:ci has 1 sessions"),
                             HasSubstr("sessions_per_identity"))));
  Write("policy", "rules { who: \"token:other\" sessions: 9 }");
  EXPECT_THAT(Connect(TokenClient("token")),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("token:ci may not open sessions"),
                             HasSubstr("`sessions: 1`"))));
}

TEST_F(SecurityTest, ADeviceThatWasNotGivenIsDenied) {
  ServerSecurity security;
  security.authorizer =
      PolicyOf("rules { who: \"anonymous\" sessions: 1 devices: \"cuda:0\" }");
  Serve(security);
  EXPECT_THAT(Connect({}),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("cpu")));
}

TEST_F(SecurityTest, BeyondLoopbackCallersHaveToBeAuthenticated) {
  for (const ServerSecurity& security : {ServerSecurity(), TlsServer()}) {
    EXPECT_THAT(
        Peer::Create(
            {.name = "x", .control = "0.0.0.0:0", .security = security}),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("not a loopback address"),
                       HasSubstr("tls_client_ca"))));
  }
  EXPECT_THAT(
      Peer::Create(
          {.name = "x", .control = "0.0.0.0:0", .security = MutualServer()}),
      IsOk());
  ServerSecurity insecure;
  insecure.insecure = true;
  EXPECT_THAT(
      Peer::Create({.name = "x", .control = "0.0.0.0:0", .security = insecure}),
      IsOk());
}

TEST_F(SecurityTest, DataBeyondLoopbackNeedsAnAuthenticatedControlPlane) {
  EXPECT_THAT(Peer::Create({.name = "x", .data = "192.0.2.1"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("PeerOptions.data '192.0.2.1'"),
                             HasSubstr("control plane"))));
  grpc::ServerBuilder builder;
  EXPECT_THAT(Peer::CreateOn(builder, {.name = "x", .data = "192.0.2.1"}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("PeerOptions.data '192.0.2.1'")));
}

bool HasPathBetweenHosts(const Capabilities& capabilities,
                         const std::string& wire) {
  for (const PathCapability& path : capabilities.paths) {
    if (path.name.rfind(wire, 0) == 0 &&
        path.reach == PathCapability::Reach::kAnywhere) {
      return true;
    }
  }
  return false;
}

// What a peer dares as a caller is no leave for those who call it.
TEST_F(SecurityTest, AnInsecureClientTakesNoPlainTextFromOtherHosts) {
  ClientSecurity client;
  client.insecure = true;
  auto peer = Peer::Create({.name = "x", .client_security = client});
  ASSERT_THAT(peer, IsOk());
  EXPECT_FALSE(HasPathBetweenHosts((*peer)->GetCapabilities(), "tcp"));
  EXPECT_TRUE(HasPathBetweenHosts((*peer)->GetCapabilities(), "tls"));
  ServerSecurity server;
  server.insecure = true;
  peer = Peer::Create({.name = "x", .security = server});
  ASSERT_THAT(peer, IsOk());
  EXPECT_TRUE(HasPathBetweenHosts((*peer)->GetCapabilities(), "tcp"));
}

// A stack of this size cannot be mapped, so there are no new threads.
TEST_F(SecurityTest, WithoutThreadsThereIsNoPeer) {
  pthread_attr_t before, huge;
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  ASSERT_EQ(pthread_attr_init(&huge), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&huge, size_t{1} << 47), 0);
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  const auto peer = Peer::Create({.name = "x"});
  ASSERT_EQ(pthread_setattr_default_np(&before), 0);
  pthread_attr_destroy(&huge);
  pthread_attr_destroy(&before);
  EXPECT_THAT(peer, StatusIs(absl::StatusCode::kResourceExhausted,
                             HasSubstr("got no thread")));
}

TEST_F(SecurityTest, WhatDoesNotGoTogetherIsSaidAtTheStart) {
  const auto refused = [](ServerSecurity security) {
    return Peer::Create({.name = "x", .security = std::move(security)})
        .status();
  };
  ServerSecurity no_key = TlsServer();
  no_key.tls_key = "";
  EXPECT_THAT(refused(no_key), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("without the other")));
  ServerSecurity wrong_key = TlsServer();
  wrong_key.tls_key = Path("trainer.key");
  EXPECT_THAT(refused(wrong_key), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("is not the key of")));
  ServerSecurity no_pem = TlsServer();
  no_pem.tls_cert = Path("tokens");
  EXPECT_THAT(refused(no_pem), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("in PEM")));
  ServerSecurity gone = TlsServer();
  gone.tls_cert = Path("none.pem");
  EXPECT_THAT(refused(gone), StatusIs(absl::StatusCode::kNotFound));
  ServerSecurity ca_alone;
  ca_alone.tls_client_ca = Path("ca.pem");
  EXPECT_THAT(refused(ca_alone), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("only TLS")));
  ServerSecurity bad_tokens;
  bad_tokens.token_file = Path("token");
  EXPECT_THAT(refused(bad_tokens), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("1: want NAME")));
}

TEST_F(SecurityTest, APeerMayGoWhenItsPolicyIsReadAgain) {
  Write("policy", "");
  absl::Mutex mu;
  std::unique_ptr<Peer> callee;
  std::string address;
  FERRY_ASSERT_OK_AND_ASSIGN(
      std::shared_ptr<PolicyFile> policy,
      PolicyFile::Open(Path("policy"),
                       [&](const std::string&, const absl::Status&) {
                         absl::MutexLock lock(&mu);
                         callee.reset();
                       }));
  {
    absl::MutexLock lock(&mu);
    FERRY_ASSERT_OK_AND_ASSIGN(
        callee, Peer::Create({.name = "callee",
                              .security = {.authorizer = std::move(policy)}}));
    address = callee->control_address();
  }
  Write("policy", "rules { who: \"anonymous\" sessions: 1 }");
  FERRY_ASSERT_OK_AND_ASSIGN(auto caller,
                             Peer::Create({.name = "caller", .control = ""}));
  EXPECT_THAT(blocking::Connect(*caller, address, {}, kPatience), Not(IsOk()));
  absl::MutexLock lock(&mu);
  EXPECT_EQ(callee, nullptr);
}

}  // namespace
}  // namespace tensorferry
