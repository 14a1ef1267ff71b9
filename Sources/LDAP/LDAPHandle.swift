import CLDAP
import Glibc
import SystemPackage

/// The library's handle of one connection. One thread at a time uses it: the one that opens it, then the event loop's, then the one that closes it.
///
/// It uses a socket that we connected ourselves: so the time limits of connecting are ours, the library never reconnects by itself
/// (that would be an unbound connection), and a stalled call can be ended from outside with shutdown(2).
@safe final class LDAPHandle: @unchecked Sendable {
    let pointer: OpaquePointer
    private let output: UnsafeMutablePointer<cldap_output>
    let descriptor: Int32
    let server: ServerAddress
    /// The password policy's answer to the bind; nil: the server sent none.
    var passwordPolicy: PasswordPolicyResponse?

    /// The largest message that is accepted.
    private static let largestMessage: ber_len_t = 64 << 20

    private init(
        pointer: OpaquePointer, output: UnsafeMutablePointer<cldap_output>, descriptor: Int32, server: ServerAddress
    ) {
        unsafe self.pointer = pointer
        unsafe self.output = output
        self.descriptor = descriptor
        self.server = server
    }

    /// - Parameter socket: a connected one, in blocking mode; it is closed by ``close()``, or at once when this throws.
    static func open(
        on socket: consuming Socket, server: ServerAddress
    ) throws(LDAPError) -> LDAPHandle {
        _ = LDAPLibrary.isReady
        let layer =
            switch server.endpoint {
            case .tcp: LDAP_PROTO_TCP
            case .local: LDAP_PROTO_IPC
            }
        var pointer: OpaquePointer?
        let code = unsafe ldap_init_fd(socket.descriptor, layer, server.description, &pointer)
        guard code == LDAP_SUCCESS, let pointer = unsafe pointer else {
            throw LDAPError(ResultCode(rawValue: code), operation: "open a handle", server: "\(server)")
        }
        let descriptor = socket.giveAway()
        guard let output = unsafe cldap_add_output(pointer, descriptor) else {
            unsafe ldap_unbind_ext(pointer, nil, nil)
            throw LDAPError(.noMemory, operation: "open a handle", server: "\(server)")
        }
        let handle = unsafe LDAPHandle(pointer: pointer, output: output, descriptor: descriptor, server: server)
        unsafe cldap_limit_message_size(pointer, Self.largestMessage)
        do throws(LDAPError) {
            try handle.set(LDAP_OPT_PROTOCOL_VERSION, LDAP_VERSION3)
            try handle.set(LDAP_OPT_DEREF, LDAP_DEREF_NEVER)
            try handle.set(LDAP_OPT_SIZELIMIT, LDAP_NO_LIMIT)
            try handle.set(LDAP_OPT_TIMELIMIT, LDAP_NO_LIMIT)
            try handle.check(unsafe cldap_set_flag(pointer, LDAP_OPT_REFERRALS, false), "turn following referrals off")
            try handle.check(unsafe cldap_set_flag(pointer, LDAP_OPT_RESTART, true), "turn restarting on")
        } catch {
            handle.close()
            throw error
        }
        return handle
    }

    /// Sends an unbind as far as the socket takes it, and closes. To be called once, after everything else.
    func close() { unsafe ldap_unbind_ext(pointer, nil, nil) }

    /// After this no call waits for the server.
    func stopBlocking() throws(LDAPError) {
        let flags = fcntl(descriptor, F_GETFL)
        guard flags >= 0, fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0 else {
            throw lost(.localError, "\(Errno(rawValue: errno))")
        }
    }

    /// Whether output waits because the socket is full.
    var hasOutput: Bool { unsafe output.pointee.start < output.pointee.end }

    /// Sends waiting output as far as the socket takes it.
    func flush() throws(LDAPError) {
        guard unsafe cldap_flush_output(output) != 0 else { return }
        throw lost(.serverDown, "\(Errno(rawValue: errno))")
    }

    /// Whether bytes wait within the library, where epoll(7) does not see them.
    var isDataReady: Bool { unsafe cldap_is_data_ready(pointer) }

    /// The library's code for the last call.
    var lastCode: ResultCode {
        var code: Int32 = 0
        let isKnown = unsafe ldap_get_option(pointer, LDAP_OPT_RESULT_CODE, &code) == LDAP_OPT_SUCCESS
        return isKnown ? ResultCode(rawValue: code) : .localError
    }

    /// The library's message for the last call; may be empty.
    var lastDiagnostic: String {
        var text: UnsafeMutablePointer<CChar>?
        guard unsafe ldap_get_option(pointer, LDAP_OPT_DIAGNOSTIC_MESSAGE, &text) == LDAP_OPT_SUCCESS else { return "" }
        let words = unsafe takeText(text)
        // The texts for numbers of GnuTLS.
        return words == "(unknown error code)" ? "" : words
    }

    /// Copies a text of the library and frees it.
    func takeText(_ text: UnsafeMutablePointer<CChar>?) -> String {
        guard let text = unsafe text else { return "" }
        defer { unsafe ldap_memfree(text) }
        return unsafe String(cString: text)
    }

    func set(_ option: Int32, _ value: Int32) throws(LDAPError) {
        try check(unsafe cldap_set_int(pointer, option, value), "option \(option)")
    }

    func check(_ code: Int32, _ operation: String) throws(LDAPError) {
        guard code != LDAP_OPT_SUCCESS else { return }
        throw LDAPError(
            ResultCode(rawValue: code), operation: operation, server: "\(server)", diagnostic: lastDiagnostic)
    }
}

// MARK: - TLS

extension LDAPHandle {
    /// Starts TLS, after the StartTLS operation unless the address is `ldaps`. Blocks; shutdown(2) from another thread ends it.
    func beginTLS(_ options: TLSOptions) throws(LDAPError) {
        guard case .tcp(_, _, let isImmediate) = server.endpoint, isImmediate || options.startTLS else { return }
        Self.prepareTLS
        try configure(options)
        let operation = isImmediate ? "TLS handshake" : "StartTLS"
        let code = isImmediate ? unsafe ldap_install_tls(pointer) : unsafe ldap_start_tls_s(pointer, nil, nil)
        guard code != LDAP_SUCCESS else { return }
        throw LDAPError(
            ResultCode(rawValue: code), operation: operation, server: "\(server)", diagnostic: lastDiagnostic,
            isConnectionLost: true)
    }

    /// The first use of the library's TLS must be alone, too. It is left to those who use TLS, and what it makes for handles that have nothing of
    /// their own is given back. A failure is reported where a handle's own context is made.
    private static let prepareTLS: Void = {
        _ = cldap_set_int(nil, LDAP_OPT_X_TLS_NEWCTX, 0)
        ldap_set_option(nil, LDAP_OPT_X_TLS_CTX, nil)
    }()

    /// Everything that bears on trust is set on the handle.
    private func configure(_ options: TLSOptions) throws(LDAPError) {
        let requirement =
            switch options.requirement {
            case .demand: LDAP_OPT_X_TLS_DEMAND
            case .allow: LDAP_OPT_X_TLS_ALLOW
            case .never: LDAP_OPT_X_TLS_NEVER
            }
        try set(LDAP_OPT_X_TLS_REQUIRE_CERT, requirement)
        // Where there is a subjectAltName it alone counts, else the common name (RFC 4513, section 3.1.3).
        try set(LDAP_OPT_X_TLS_REQUIRE_SAN, LDAP_OPT_X_TLS_TRY)
        if let file = try authorities(options) { try set(LDAP_OPT_X_TLS_CACERTFILE, file: file, "the CA file") }
        if let file = options.certificateFile { try set(LDAP_OPT_X_TLS_CERTFILE, file: file, "the certificate file") }
        if let file = options.keyFile { try set(LDAP_OPT_X_TLS_KEYFILE, file: file, "the key file") }
        // Last: it makes the context from all that was set before.
        let code = unsafe cldap_set_int(pointer, LDAP_OPT_X_TLS_NEWCTX, 0)
        guard code != LDAP_OPT_SUCCESS else { return }
        throw LDAPError(
            .localError, operation: "prepare TLS", server: "\(server)",
            diagnostic:
                "the CA, certificate or key file is not a PEM file, or the key does not belong to the certificate")
    }

    /// The library does not report a file that it cannot read, so it is checked before.
    private func set(_ option: Int32, file: String, _ role: String) throws(LDAPError) {
        guard unsafe access(file, R_OK) == 0 else {
            let reason = Errno(rawValue: errno)
            throw LDAPError(
                .localError, operation: "prepare TLS", server: "\(server)", diagnostic: "\(role) \(file): \(reason)")
        }
        try check(unsafe ldap_set_option(pointer, option, file), "set \(role)")
    }

    private func authorities(_ options: TLSOptions) throws(LDAPError) -> String? {
        if let file = options.authorities { return file }
        guard options.requirement == .demand else { return nil }
        throw LDAPError(
            .localError, operation: "prepare TLS", server: "\(server)",
            diagnostic: "this system has no list of authorities (looked for "
                + TLSOptions.systemAuthorities.joined(separator: ", ")
                + "); name the certificate of the server's authority in TLS_CA_FILE, or apt install ca-certificates")
    }

    /// The server's certificate in DER, after the handshake.
    var peerCertificate: [UInt8]? {
        var certificate = unsafe berval()
        guard unsafe ldap_get_option(pointer, LDAP_OPT_X_TLS_PEERCERT, &certificate) == LDAP_OPT_SUCCESS,
            let start = unsafe certificate.bv_val
        else { return nil }
        defer { unsafe ldap_memfree(start) }
        return unsafe Array(UnsafeRawBufferPointer(start: start, count: Int(certificate.bv_len)))
    }
}

// MARK: - The library

/// The global state of libldap.
package enum LDAPLibrary {
    /// Makes libldap ignore ldap.conf, `ldaprc` in the home and in the working directory, the variables `LDAP…`, and Cyrus SASL's
    /// mechanisms, which would all be loaded (the only one in use, EXTERNAL, is built in).
    ///
    /// To be called before the first connection, by a program while it has one thread: it changes the environment.
    package static func ignoreSurroundings() {
        unsafe setenv(noInitialization, "1", 1)
        unsafe setenv("SASL_PATH", "/nonexistent", 1)
    }

    /// With this variable the library reads no file and no other variable (ldap.conf(5)).
    private static let noInitialization = "LDAPNOINIT"

    /// The first call into the library must be alone: it fills global variables.
    static let isReady: Bool = {
        if unsafe getenv(noInitialization) == nil { ignoreSurroundings() }
        // Before, so that no resolver is asked; and after, since the hosts file may have another name for it.
        cldap_keep_localhost()
        defer { cldap_keep_localhost() }
        var version: Int32 = 0
        return unsafe ldap_get_option(nil, LDAP_OPT_PROTOCOL_VERSION, &version) == LDAP_OPT_SUCCESS
    }()
}
