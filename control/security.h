#ifndef TENSORFERRY_CONTROL_SECURITY_H_
#define TENSORFERRY_CONTROL_SECURITY_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "control/authorizer.h"
#include "control/reloaded_file.h"

namespace tensorferry {

// What a peer that is called shows its callers, and what it wants to be shown.
// Files are PEM, and may be replaced while the peer lives.
//
// Who calls through a unix socket is known by his user (SO_PEERCRED). Over TCP
// he is known by a certificate that `tls_client_ca` signed, or by a token of
// `token_file`; with both files either will do, with one of them that one is
// required, and without any the caller is anonymous, which is taken on loopback
// only.
struct ServerSecurity {
  std::string tls_cert, tls_key;  // own chain and key; set: TCP is TLS only
  std::string tls_client_ca;      // needs tls_cert
  std::string token_file;         // of hashes, see control/tokens.h
  // What each may do. Null: users other than our own may not come in through
  // unix sockets, all else that may come in may do everything.
  std::shared_ptr<const Authorizer> authorizer;
  // Takes anonymous callers, control calls and data in plain text beyond
  // loopback too.
  bool insecure = false;
  mode_t unix_mode = 0600;  // of a unix socket's file
  // How often certificate files are looked at; whole seconds. The other files
  // are at every call.
  absl::Duration certificate_reload = absl::Seconds(10);
  OnReload on_reload;  // of token_file; null: nobody is told
};

// What a caller wants to be shown, and what it shows.
struct ClientSecurity {
  std::string tls_ca;             // set: TCP is TLS, signed by one of these
  std::string tls_cert, tls_key;  // own chain and key; need tls_ca
  // One line, the token. Only sent over TLS, loopback and unix sockets on which
  // root or our own user listens.
  std::string token_file;
  // The name that the certificate must have; empty: the address's.
  std::string server_name;
  bool insecure = false;  // calls and data in plain text beyond loopback too
  absl::Duration certificate_reload = absl::Seconds(10);
};

}  // namespace tensorferry

#endif  // TENSORFERRY_CONTROL_SECURITY_H_
