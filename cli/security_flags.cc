#include "cli/security_flags.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "control/policy_file.h"

namespace tensorferry::cli {
namespace {

OnReload LogReloads(const Output& output) {
  return [&output](const std::string& path, const absl::Status& status) {
    output.Log(status.ok() ? absl::StrCat("read ", OneLine(path), " again")
                           : absl::StrCat("what ", OneLine(path),
                                          " said before still counts: ",
                                          OneLine(status.ToString())));
  };
}

// Three octal digits, maybe with a 0 in front.
absl::StatusOr<mode_t> ModeOf(const std::string& text) {
  mode_t mode = 0;
  for (char digit : text) {
    if (digit < '0' || digit > '7' || mode > 077) {
      return UsageError(absl::StrCat("--unix_mode \"", OneLine(text),
                                     "\" is no mode like 0600 or 0660"));
    }
    mode = mode * 8 + (digit - '0');
  }
  return mode;
}

}  // namespace

std::vector<Flag> CallingFlags() {
  return {
      {"tls_ca", "FILE",
       "Speak TLS; the peer's certificate is signed by one of these (PEM)."},
      {"tls_cert", "FILE", "Certificate chain to show (PEM)."},
      {"tls_key", "FILE", "Its private key (PEM)."},
      {"token_file", "FILE",
       "One line, the token to show. Only sent over TLS, unix: and loopback."},
      {"server_name", "NAME",
       "The name in the peer's certificate. Default: ADDRESS's host."},
      {"insecure", "",
       "Insecure: speak plain text to another host, which anybody on the way "
       "can read\n      and change."}};
}

ClientSecurity ClientSecurityOf(const Arguments& arguments) {
  ClientSecurity security;
  security.tls_ca = arguments.Get("tls_ca");
  security.tls_cert = arguments.Get("tls_cert");
  security.tls_key = arguments.Get("tls_key");
  security.token_file = arguments.Get("token_file");
  security.server_name = arguments.Get("server_name");
  security.insecure = arguments.Has("insecure");
  return security;
}

std::vector<Flag> ServingFlags() {
  return {
      {"tls_cert", "FILE",
       "Certificate chain of this peer (PEM): TCP is TLS only then."},
      {"tls_key", "FILE", "Its private key (PEM)."},
      {"tls_client_ca", "FILE",
       "Callers over TCP have to show a certificate that one of these signed "
       "(PEM), or,\n      with --token_file, a token."},
      {"token_file", "FILE",
       "Callers over TCP have to show a token. Lines of NAME SHA256, the "
       "token's hash in hex."},
      {"policy", "FILE",
       "Who may do what (control/policy.proto, text format); what it does not "
       "give is denied.\n      Default: whoever may come in may do all."},
      {"unix_mode", "MODE",
       "Of the file of a unix: socket. Default: 0600; other users also need a "
       "rule of\n      --policy."},
      {"insecure", "",
       "Insecure: take anonymous callers and plain text, data included, from "
       "other hosts."}};
}

absl::StatusOr<ServerSecurity> ServerSecurityOf(const Arguments& arguments,
                                                const Output& output) {
  ServerSecurity security;
  security.tls_cert = arguments.Get("tls_cert");
  security.tls_key = arguments.Get("tls_key");
  security.tls_client_ca = arguments.Get("tls_client_ca");
  security.token_file = arguments.Get("token_file");
  security.insecure = arguments.Has("insecure");
  FERRY_ASSIGN_OR_RETURN(security.unix_mode,
                         ModeOf(arguments.Get("unix_mode", "0600")));
  security.on_reload = LogReloads(output);
  if (arguments.Has("policy")) {
    FERRY_ASSIGN_OR_RETURN(
        security.authorizer,
        PolicyFile::Open(arguments.Get("policy"), security.on_reload));
  }
  return security;
}

}  // namespace tensorferry::cli
