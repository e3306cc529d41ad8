// UCX's tagged messages as a plugin: one message of an iov entry for each
// piece, into memory that is posted before, and one byte back. Both sides spin,
// as UCX's own benchmark does. UCX_TLS chooses the transports.
#include <string.h>
#include <ucp/api/ucp.h>

#include <string>
#include <vector>

#include "benchmarks/neighbours/plugin.h"

namespace {

enum Tag : ucp_tag_t { kMessage = 1, kAddress = 2, kAnswer = 3 };
constexpr ucp_tag_t kWholeTag = ~ucp_tag_t{0};

std::string error_text;

// Keeps the text of what went wrong; true: nothing did.
bool Ok(const char* call, ucs_status_t status) {
  if (status == UCS_OK) return true;
  error_text = std::string(call) + ": " + ucs_status_string(status);
  return false;
}

std::string ToHex(const void* data, size_t nbytes) {
  static const char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (size_t i = 0; i < nbytes; ++i) {
    const unsigned char byte = static_cast<const unsigned char*>(data)[i];
    hex += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return hex;
}

std::string FromHex(const std::string& hex) {
  std::string data;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    data += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return data;
}

class End {
 public:
  bool Start() {
    ucp_params_t params = {};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_TAG;
    ucp_worker_params_t worker = {};
    worker.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    worker.thread_mode = UCS_THREAD_MODE_SINGLE;
    ucp_address_t* address = nullptr;
    size_t length = 0;
    if (!Ok("ucp_init", ucp_init(&params, nullptr, &context_)) ||
        !Ok("ucp_worker_create",
            ucp_worker_create(context_, &worker, &worker_)) ||
        !Ok("ucp_worker_get_address",
            ucp_worker_get_address(worker_, &address, &length))) {
      return false;
    }
    address_.assign(reinterpret_cast<char*>(address), length);
    ucp_worker_release_address(worker_, address);
    return true;
  }

  const std::string& address() const { return address_; }

  bool ConnectTo(const std::string& address) {
    ucp_ep_params_t params = {};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS;
    params.address = reinterpret_cast<const ucp_address_t*>(address.data());
    return Ok("ucp_ep_create", ucp_ep_create(worker_, &params, &peer_));
  }

  bool SendAddress() {
    return Finish("send of the address",
                  Post(kAddress, address_.data(), address_.size()));
  }

  // Waits for the sender's, and connects to it.
  bool TakeAddress() {
    ucp_tag_recv_info_t info;
    while (ucp_tag_probe_nb(worker_, kAddress, kWholeTag, 0, &info) ==
           nullptr) {
      ucp_worker_progress(worker_);
    }
    std::string address(info.length, '\0');
    const ucp_request_param_t plain = {};
    return Finish("receive of the address",
                  ucp_tag_recv_nbx(worker_, address.data(), address.size(),
                                   kAddress, kWholeTag, &plain)) &&
           ConnectTo(address);
  }

  bool Send(const iovec* pieces, size_t count) {
    char byte;
    const ucp_request_param_t plain = {};
    void* answer =
        ucp_tag_recv_nbx(worker_, &byte, 1, kAnswer, kWholeTag, &plain);
    SetPieces(pieces, count);
    const ucp_request_param_t iov = Iov();
    return Finish("send", ucp_tag_send_nbx(peer_, iov_.data(), iov_.size(),
                                           kMessage, &iov)) &&
           Finish("receive of the answer", answer);
  }

  bool Arm(const iovec* pieces, size_t count) {
    SetPieces(pieces, count);
    const ucp_request_param_t iov = Iov();
    armed_ = ucp_tag_recv_nbx(worker_, iov_.data(), iov_.size(), kMessage,
                              kWholeTag, &iov);
    return !UCS_PTR_IS_ERR(armed_) || Ok("receive", UCS_PTR_STATUS(armed_));
  }

  bool Take() {
    return Finish("receive", armed_) && Finish("answer", Post(kAnswer, "!", 1));
  }

 private:
  static ucp_request_param_t Iov() {
    ucp_request_param_t param = {};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_DATATYPE;
    param.datatype = ucp_dt_make_iov();
    return param;
  }

  void SetPieces(const iovec* pieces, size_t count) {
    iov_.resize(count);
    for (size_t i = 0; i < count; ++i) {
      iov_[i] = {pieces[i].iov_base, pieces[i].iov_len};
    }
  }

  void* Post(Tag tag, const void* data, size_t nbytes) {
    const ucp_request_param_t plain = {};
    return ucp_tag_send_nbx(peer_, data, nbytes, tag, &plain);
  }

  bool Finish(const char* what, void* request) {
    if (request == nullptr) return true;  // done at once
    if (UCS_PTR_IS_ERR(request)) return Ok(what, UCS_PTR_STATUS(request));
    ucs_status_t status;
    while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS) {
      ucp_worker_progress(worker_);
    }
    ucp_request_free(request);
    return Ok(what, status);
  }

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_ep_h peer_ = nullptr;
  std::string address_;
  std::vector<ucp_dt_iov_t> iov_;
  void* armed_ = nullptr;
};

End* Of(void* end) { return static_cast<End*>(end); }

}  // namespace

// The ends live as long as the process.
extern "C" {

void* plugin_listen(char* address, size_t capacity) {
  auto* end = new End;
  if (!end->Start()) return nullptr;
  const std::string hex = ToHex(end->address().data(), end->address().size());
  if (hex.size() >= capacity) {
    error_text = "the address is too long";
    return nullptr;
  }
  memcpy(address, hex.c_str(), hex.size() + 1);
  return end;
}

int plugin_accept(void* end) { return Of(end)->TakeAddress() ? 0 : -1; }

void* plugin_connect(const char* address) {
  auto* end = new End;
  return end->Start() && end->ConnectTo(FromHex(address)) && end->SendAddress()
             ? end
             : nullptr;
}

int plugin_send(void* end, const iovec* pieces, size_t count) {
  return Of(end)->Send(pieces, count) ? 0 : -1;
}

int plugin_arm(void* end, const iovec* pieces, size_t count) {
  return Of(end)->Arm(pieces, count) ? 0 : -1;
}

int plugin_take(void* end) { return Of(end)->Take() ? 0 : -1; }

const char* plugin_error(void) { return error_text.c_str(); }

}  // extern "C"
