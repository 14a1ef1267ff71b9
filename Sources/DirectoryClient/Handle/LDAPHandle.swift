import CLDAP
import Glibc

/// The library's handle of one connection, owned by one thread.
///
/// It stands on a socket that we connected ourselves: so the time limits of connecting are ours, the library never connects anew by itself
/// (that would be an unbound connection), and a stalled call can be ended from outside with shutdown(2).
@safe struct LDAPHandle: ~Copyable {
    let pointer: OpaquePointer
    let descriptor: Int32
    let server: ServerAddress

    /// The largest message that is taken in.
    private static let largestMessage: ber_len_t = 64 << 20

    private init(pointer: OpaquePointer, descriptor: Int32, server: ServerAddress) {
        unsafe self.pointer = pointer
        self.descriptor = descriptor
        self.server = server
    }

    /// - Parameter socket: a connected one, in blocking mode; it is closed with the handle, or at once when this throws.
    static func open(
        on socket: consuming Socket, server: ServerAddress
    ) throws(DirectoryError) -> LDAPHandle {
        _ = LDAPLibrary.isReady
        let layer =
            switch server.endpoint {
            case .tcp: LDAP_PROTO_TCP
            case .local: LDAP_PROTO_IPC
            }
        var pointer: OpaquePointer?
        let code = unsafe ldap_init_fd(socket.descriptor, layer, server.description, &pointer)
        guard code == LDAP_SUCCESS, let pointer = unsafe pointer else {
            throw DirectoryError(ResultCode(rawValue: code), operation: "open a handle", server: "\(server)")
        }
        let handle = unsafe LDAPHandle(pointer: pointer, descriptor: socket.giveAway(), server: server)
        unsafe cldap_limit_message_size(pointer, Self.largestMessage)
        try handle.set(LDAP_OPT_PROTOCOL_VERSION, LDAP_VERSION3)
        try handle.set(LDAP_OPT_DEREF, LDAP_DEREF_NEVER)
        try handle.set(LDAP_OPT_SIZELIMIT, LDAP_NO_LIMIT)
        try handle.set(LDAP_OPT_TIMELIMIT, LDAP_NO_LIMIT)
        try handle.check(unsafe cldap_set_flag(pointer, LDAP_OPT_REFERRALS, false), "turn following referrals off")
        try handle.check(unsafe cldap_set_flag(pointer, LDAP_OPT_RESTART, true), "turn restarting on")
        return handle
    }

    /// Sends an unbind as far as the socket takes it, and closes.
    deinit { unsafe ldap_unbind_ext(pointer, nil, nil) }

    /// Whether bytes wait within the library, where poll(2) does not see them.
    var isDataReady: Bool { unsafe cldap_is_data_ready(pointer) }

    /// The library's code for the last call.
    var lastCode: ResultCode {
        var code: Int32 = 0
        let isKnown = unsafe ldap_get_option(pointer, LDAP_OPT_RESULT_CODE, &code) == LDAP_OPT_SUCCESS
        return isKnown ? ResultCode(rawValue: code) : .localError
    }

    /// The library's words for the last call; empty when it has none.
    var lastDiagnostic: String {
        var text: UnsafeMutablePointer<CChar>?
        guard unsafe ldap_get_option(pointer, LDAP_OPT_DIAGNOSTIC_MESSAGE, &text) == LDAP_OPT_SUCCESS else { return "" }
        let words = unsafe takeText(text)
        // What GnuTLS's numbers become.
        return words == "(unknown error code)" ? "" : words
    }

    /// Makes a text of the library ours.
    func takeText(_ text: UnsafeMutablePointer<CChar>?) -> String {
        guard let text = unsafe text else { return "" }
        defer { unsafe ldap_memfree(text) }
        return unsafe String(cString: text)
    }

    func set(_ option: Int32, _ value: Int32) throws(DirectoryError) {
        try check(unsafe cldap_set_int(pointer, option, value), "option \(option)")
    }

    func check(_ code: Int32, _ operation: String) throws(DirectoryError) {
        guard code != LDAP_OPT_SUCCESS else { return }
        throw DirectoryError(
            ResultCode(rawValue: code), operation: operation, server: "\(server)", diagnostic: lastDiagnostic)
    }
}
