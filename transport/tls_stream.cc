#include "transport/tls_stream.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "transport/proof.h"

namespace tensorferry {
namespace {

// One record of TLS: more in one call gains nothing.
constexpr size_t kRecordBytes = 16 << 10;

struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

// OpenSSL's own socket BIO raises SIGPIPE.
int SendBio(BIO* bio, const char* data, int size) {
  BIO_clear_retry_flags(bio);
  const int fd =
      static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t sent =
      send(fd, data, static_cast<size_t>(size), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && errno == EAGAIN) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int ReceiveBio(BIO* bio, char* data, int size) {
  BIO_clear_retry_flags(bio);
  const int fd =
      static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
  const ssize_t got = recv(fd, data, static_cast<size_t>(size), MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) BIO_set_retry_read(bio);
  return static_cast<int>(got);
}

long ControlBio(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

int CreateBio(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

BIO_METHOD* SocketBio() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    BIO_meth_set_write(made, SendBio);
    BIO_meth_set_read(made, ReceiveBio);
    BIO_meth_set_ctrl(made, ControlBio);
    BIO_meth_set_create(made, CreateBio);
    return made;
  }();
  return method;
}

std::string PskOf(absl::string_view key, absl::string_view session_id) {
  const Proof psk = Prove(
      key, absl::StrCat("tensorferry data port, key of TLS:", session_id));
  return std::string(psk.begin(), psk.end());
}

// The form in which OpenSSL takes a pre-shared key.
SSL_SESSION* PskSession(SSL* ssl, const std::string& psk) {
  constexpr unsigned char kAes128GcmSha256[] = {0x13, 0x01};
  SSL_SESSION* session = SSL_SESSION_new();
  if (session != nullptr &&
      SSL_SESSION_set1_master_key(
          session, reinterpret_cast<const unsigned char*>(psk.data()),
          psk.size()) == 1 &&
      SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, kAes128GcmSha256)) ==
          1 &&
      SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1) {
    return session;
  }
  SSL_SESSION_free(session);
  return nullptr;
}

class TlsStream final : public ByteStream {
 public:
  TlsStream(UniqueFd fd, SessionKey session, FindTlsKey find)
      : ByteStream(std::move(fd)),
        session_(std::move(session)),
        find_(std::move(find)) {}

  bool Start(bool server);
  Result Prepare() override;
  Result Read(const iovec* buffers, int count) override;
  Result Write(const iovec* buffers, int count) override;
  bool AtEnd() override;

  // OpenSSL's callbacks.
  static int UseKey(SSL* ssl, const EVP_MD* digest, const unsigned char** id,
                    size_t* id_size, SSL_SESSION** session);
  static int FindKey(SSL* ssl, const unsigned char* id, size_t id_size,
                     SSL_SESSION** session);

 private:
  Result ResultOf(int returned, const char* what);
  size_t Gather(const iovec* buffers, int count);

  const SessionKey session_;  // of a client
  const FindTlsKey find_;     // of a server
  std::unique_ptr<SSL, FreeSsl> ssl_;
  // What OpenSSL is to be given again, as it wants the same bytes.
  std::vector<char> record_;
  size_t record_sent_ = 0;
};

SSL_CTX* Context() {
  static SSL_CTX* const context = [] {
    SSL_CTX* made = SSL_CTX_new(TLS_method());
    if (made == nullptr) std::abort();  // OpenSSL is not there at all
    SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(made, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE |
                               SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS);
    // No tickets: who comes again proves the key again.
    SSL_CTX_set_num_tickets(made, 0);
    SSL_CTX_set_session_cache_mode(made, SSL_SESS_CACHE_OFF);
    // Frames know their length, so that a cut stream is noticed without TLS.
    SSL_CTX_set_options(made, SSL_OP_IGNORE_UNEXPECTED_EOF);
    // Neither side has a certificate. A server without the key has nothing to
    // show, and the handshake fails.
    SSL_CTX_set_verify(made, SSL_VERIFY_NONE, nullptr);
    SSL_CTX_set_psk_use_session_callback(made, TlsStream::UseKey);
    SSL_CTX_set_psk_find_session_callback(made, TlsStream::FindKey);
    return made;
  }();
  return context;
}

bool TlsStream::Start(bool server) {
  ssl_.reset(SSL_new(Context()));
  BIO* bio = BIO_new(SocketBio());
  if (ssl_ == nullptr || bio == nullptr) {
    BIO_free(bio);
    return false;
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(fd())));
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  if (server) {
    SSL_set_accept_state(ssl_.get());
  } else {
    SSL_set_connect_state(ssl_.get());
  }
  return true;
}

int TlsStream::UseKey(SSL* ssl, const EVP_MD*, const unsigned char** id,
                      size_t* id_size, SSL_SESSION** session) {
  auto* self = static_cast<TlsStream*>(SSL_get_app_data(ssl));
  *id =
      reinterpret_cast<const unsigned char*>(self->session_.session_id.data());
  *id_size = self->session_.session_id.size();
  *session =
      PskSession(ssl, PskOf(self->session_.key, self->session_.session_id));
  return *session != nullptr;
}

// No session is no error: the handshake goes on without a key, and fails.
int TlsStream::FindKey(SSL* ssl, const unsigned char* id, size_t id_size,
                       SSL_SESSION** session) {
  auto* self = static_cast<TlsStream*>(SSL_get_app_data(ssl));
  *session = nullptr;
  if (id_size == 0 || id_size > SessionKey::kLongestId) return 1;
  const std::string name(reinterpret_cast<const char*>(id), id_size);
  if (auto key = self->find_(name)) {
    *session = PskSession(ssl, PskOf(*key, name));
  }
  return 1;
}

ByteStream::Result TlsStream::ResultOf(int returned, const char* what) {
  switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      return {.state = State::kBlocked};
    case SSL_ERROR_ZERO_RETURN:
      return {.state = State::kEnd};
    default:
      break;
  }
  const unsigned long error = ERR_peek_last_error();
  if (error == 0) {
    return {.state = State::kFailed,
            .status = SocketError(what, errno != 0 ? errno : ECONNRESET)};
  }
  char text[128];
  ERR_error_string_n(error, text, sizeof(text));
  return {.state = State::kFailed,
          .status = absl::UnavailableError(absl::StrCat(what, ": ", text))};
}

ByteStream::Result TlsStream::Prepare() {
  ERR_clear_error();
  errno = 0;
  const int returned = SSL_do_handshake(ssl_.get());
  if (returned == 1) {
    // With a pre-shared key, and no other way, a session is resumed.
    if (SSL_session_reused(ssl_.get()) == 1) return {};
    return {
        .state = State::kFailed,
        .status = absl::UnauthenticatedError("TLS without the session's key")};
  }
  Result result = ResultOf(returned, "TLS handshake");
  if (result.state == State::kEnd) {
    return {.state = State::kFailed,
            .status = absl::UnavailableError("closed during the handshake")};
  }
  // The peer that refuses says so in an alert; all other reasons for OpenSSL to
  // give up come down to a key that is not the same.
  if (result.state == State::kFailed && ERR_peek_last_error() != 0) {
    result.status = absl::UnauthenticatedError(
        absl::StrCat("TLS: the two sides do not have the same session key: ",
                     result.status.message()));
  }
  return result;
}

ByteStream::Result TlsStream::Read(const iovec* buffers, int count) {
  size_t total = 0;
  for (int i = 0; i < count; ++i) {
    auto* to = static_cast<char*>(buffers[i].iov_base);
    for (size_t got = 0; got < buffers[i].iov_len;) {
      ERR_clear_error();
      errno = 0;
      size_t bytes = 0;
      const int returned =
          SSL_read_ex(ssl_.get(), to + got, buffers[i].iov_len - got, &bytes);
      if (returned != 1) {
        // What went wrong comes again at the next call.
        if (total > 0) return {.bytes = total};
        return ResultOf(returned, "SSL_read");
      }
      got += bytes;
      total += bytes;
    }
  }
  return {.bytes = total};
}

// Small pieces go into one record.
size_t TlsStream::Gather(const iovec* buffers, int count) {
  for (int i = 0; i < count && record_.size() < kRecordBytes; ++i) {
    const auto* from = static_cast<const char*>(buffers[i].iov_base);
    const size_t bytes =
        std::min(buffers[i].iov_len, kRecordBytes - record_.size());
    record_.insert(record_.end(), from, from + bytes);
  }
  return record_.size();
}

ByteStream::Result TlsStream::Write(const iovec* buffers, int count) {
  if (record_.empty()) {
    record_sent_ = 0;
    if (Gather(buffers, count) == 0) return {};
  }
  ERR_clear_error();
  errno = 0;
  size_t bytes = 0;
  const int returned = SSL_write_ex(ssl_.get(), record_.data() + record_sent_,
                                    record_.size() - record_sent_, &bytes);
  if (returned != 1) return ResultOf(returned, "SSL_write");
  record_sent_ += bytes;
  if (record_sent_ == record_.size()) record_.clear();
  return {.bytes = bytes};
}

// Not the socket's end: OpenSSL holds the rest of a record that it took from
// there, and what is left there may be no record with bytes for us.
bool TlsStream::AtEnd() {
  ERR_clear_error();
  char byte;
  size_t bytes = 0;
  const int returned = SSL_peek_ex(ssl_.get(), &byte, 1, &bytes);
  if (returned == 1) return false;
  const int error = SSL_get_error(ssl_.get(), returned);
  return error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE;
}

std::unique_ptr<ByteStream> Started(std::unique_ptr<TlsStream> stream,
                                    bool server) {
  if (!stream->Start(server)) return nullptr;
  return stream;
}

}  // namespace

std::unique_ptr<ByteStream> MakeTlsClient(UniqueFd socket, SessionKey session) {
  return Started(std::make_unique<TlsStream>(std::move(socket),
                                             std::move(session), FindTlsKey()),
                 /*server=*/false);
}

std::unique_ptr<ByteStream> MakeTlsServer(UniqueFd socket, FindTlsKey find) {
  return Started(std::make_unique<TlsStream>(std::move(socket), SessionKey(),
                                             std::move(find)),
                 /*server=*/true);
}

}  // namespace tensorferry
