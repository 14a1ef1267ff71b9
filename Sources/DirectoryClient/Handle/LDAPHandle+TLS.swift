import CLDAP
import Glibc

extension LDAPHandle {
    /// Begins TLS, after the StartTLS operation where the address does not say TLS already. Blocks; shutdown(2) from outside ends it.
    func beginTLS(_ options: TLSOptions) throws(DirectoryError) {
        guard case .tcp(_, _, let isImmediate) = server.endpoint, isImmediate || options.startTLS else { return }
        Self.prepareTLS
        try configure(options)
        let operation = isImmediate ? "TLS handshake" : "StartTLS"
        let code = isImmediate ? unsafe ldap_install_tls(pointer) : unsafe ldap_start_tls_s(pointer, nil, nil)
        guard code != LDAP_SUCCESS else { return }
        throw DirectoryError(
            ResultCode(rawValue: code), operation: operation, server: "\(server)", diagnostic: lastDiagnostic,
            isConnectionLost: true)
    }

    /// The first use of the library's TLS must be alone, too. It is left to those who use TLS, and what it makes for handles that have nothing of
    /// their own is given back. Whether it fails is told where a handle's own is made.
    private static let prepareTLS: Void = {
        _ = cldap_set_int(nil, LDAP_OPT_X_TLS_NEWCTX, 0)
        ldap_set_option(nil, LDAP_OPT_X_TLS_CTX, nil)
    }()

    /// Everything that bears on trust is set on the handle.
    private func configure(_ options: TLSOptions) throws(DirectoryError) {
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
        throw DirectoryError(
            .localError, operation: "prepare TLS", server: "\(server)",
            diagnostic:
                "the CA, certificate or key file is not a PEM file, or the key does not belong to the certificate")
    }

    /// The library says nothing of a file that it cannot read, so we look first.
    private func set(_ option: Int32, file: String, _ role: String) throws(DirectoryError) {
        guard unsafe access(file, R_OK) == 0 else {
            let reason = SystemError(errno)
            throw DirectoryError(
                .localError, operation: "prepare TLS", server: "\(server)", diagnostic: "\(role) \(file): \(reason)")
        }
        try check(unsafe ldap_set_option(pointer, option, file), "set \(role)")
    }

    private func authorities(_ options: TLSOptions) throws(DirectoryError) -> String? {
        if let file = options.authorities { return file }
        guard options.requirement == .demand else { return nil }
        throw DirectoryError(
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
