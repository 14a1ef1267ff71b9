import Daemon
import LDAP
import Glibc
import JobCore
import Provisioning
import SystemPackage

/// `[Database]`: the LDAP servers, and the connections to them.
struct DatabaseSettings: SettingsSection {
    /// The servers, in the order of preference.
    var servers: [String] = []
    /// The port of servers without a URL.
    var port: Int?
    var user: DN?
    var password: Secret?
    /// Whether the daemon authenticates by the socket or its certificate.
    var isExternal = false
    /// The parent of the accounts; not the root after the check.
    var subtree = DN.root
    var condition: Filter?
    var timing = Watcher.Timing()
    /// The check sets its credentials.
    var connection = ConnectionOptions()

    private static let noCookie = "the entries contain the requests, no cookie is stored"

    static let section = SectionName("Database")
    static let meaning = "The LDAP server that holds the accounts."
    static let keys: [Setting<Self>] = [
        Setting(
            "BACKEND", fixed: .choice(["LDAP": "LDAP"]), value: "LDAP",
            meaning: "The database of the accounts; there is one choice."),
        Setting(
            "SERVER", \.servers, .words, example: "ldapi:///",
            meaning: """
                The LDAP servers in the order of preference, split by blanks: ldap://HOST, ldaps://HOST, ldapi:/// (a local \
                socket), or host names. Must be set.
                """),
        Setting(
            "PORT", \.port, orEmpty: .number(1...65_535), note: "389",
            meaning: "The port of servers that are written as host names; an address contains its own."),
        Setting(
            "SASL_MECHANISM", \.isExternal, .choice(["none": false, "EXTERNAL": true]), example: "EXTERNAL",
            meaning: """
                EXTERNAL authenticates the daemon by the ldapi socket or by its TLS certificate, without ADMIN_USER and \
                password.
                """),
        Setting(
            "ADMIN_USER", \.user, orEmpty: .dn, meaning: "The bind DN of the daemon. It needs a password."),
        Setting(
            "ADMIN_PASSWORD", \.password, .secret { Secret($0) },
            meaning:
                "The password of ADMIN_USER. A file that contains it must only be accessible for its owner (chmod 600)."
        ),
        Setting(
            "START_TLS", \.connection.tls.startTLS, .boolean,
            meaning: "Whether connections to ldap:// servers are encrypted before other data is sent."),
        Setting(
            "TLS_CA_FILE", \.connection.tls.caFile, orEmpty: .path, note: "the system's",
            meaning: "The certificates (PEM) of the trusted authorities."),
        Setting(
            "TLS_CERT_FILE", \.connection.tls.certificateFile, orEmpty: .path,
            meaning: "The daemon's certificate (PEM), for servers that request one; needs TLS_KEY_FILE."),
        Setting(
            "TLS_KEY_FILE", \.connection.tls.keyFile, orEmpty: .path,
            meaning: "The key (PEM) of the daemon's certificate."),
        Setting(
            "TLS_REQUIRE", \.connection.tls.requirement, .choice,
            meaning:
                "Whether a server's certificate must be trusted and name the server: demand requires it, allow and never accept any."
        ),
        Setting(
            "SERVICE_SUBTREE", \.subtree, .dn, example: "ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org",
            meaning: "The parent entry of the accounts. Must be set."),
        Setting(
            "SEARCH_FILTER", \.condition, .condition,
            meaning: "An LDAP filter that accounts must also match, such as (sstBelongsToResellerUID=4000000)."),
        Setting(
            "DETECTION", \.timing.detection, .choice,
            meaning: """
                How requests are detected: persist by a persistent search (RFC 4533), poll by repeated searches, auto uses \
                persist if the server offers it.
                """),
        Setting(
            "POLL_INTERVAL", \.timing.pollInterval, .duration(from: .seconds(1)), meaning: "The interval of poll."),
        Setting(
            "RELIST_INTERVAL", \.timing.relistInterval, .duration(from: .seconds(1)),
            meaning: "How often all requests are searched for, in addition to detected changes."),
        Setting(
            "CONNECT_TIMEOUT", \.connection.connectTimeout, .duration(from: .seconds(1)),
            meaning: "The time limit for connecting, encrypting and binding together."),
        Setting(
            "OPERATION_TIMEOUT", \.connection.operationTimeout, .duration(from: .seconds(1)),
            meaning: "The time limit for the reply to one operation."),
    ]
    static let retired = [
        RetiredSetting("COOKIE_FILE", replacement: noCookie),
        RetiredSetting("DEFAULT_COOKIE", replacement: noCookie),
        RetiredSetting("GROUP_COMMIT", replacement: "it has no effect, every write is sent by itself"),
    ]
}

// MARK: - Checks across keys

extension DatabaseSettings {
    /// Checks servers, TLS and credentials, and sets the credentials.
    ///
    /// - Returns: the servers, in the order of preference.
    mutating func check(_ settings: inout Settings) -> [ServerAddress] {
        let addresses = addresses(&settings)
        checkTLS(&settings)
        connection.credentials = credentials(addresses, &settings)
        if subtree.isEmpty {
            settings.refuse(
                \Self.subtree, "the parent of the accounts is not set",
                hint: "write the parent entry, such as ou=accounts,ou=backup,ou=services,dc=example,dc=org")
        }
        return addresses
    }

    private func addresses(_ settings: inout Settings) -> [ServerAddress] {
        if servers.isEmpty {
            settings.refuse(
                \Self.servers, "no LDAP server is named", hint: "write one, such as ldaps://ldap.example.org")
        }
        let port = port.map { UInt16(clamping: $0) }
        return servers.compactMap { text in
            do throws(LDAPSyntaxError) {
                guard text.contains("://") else { return try ServerAddress(parsing: text, defaultPort: port) }
                let server = try ServerAddress(parsing: text)
                if try server != ServerAddress(parsing: text, defaultPort: port) {
                    settings.warn(
                        \Self.port, "it is only for host names, and \(text) is an address",
                        hint: "write the port into the address, or take the line out")
                }
                return server
            } catch {
                settings.refuse(
                    \Self.servers, "\(text): \(error.reason)",
                    hint: "write ldap://HOST, ldaps://HOST or ldapi:///, or the name of a host")
                return nil
            }
        }
    }

    private func checkTLS(_ settings: inout Settings) {
        let tls = connection.tls
        let isReadable = Self.checkFile(\.connection.tls.caFile, "TLS_CA_FILE", tls.caFile, &settings)
        Self.checkFile(\.connection.tls.certificateFile, "TLS_CERT_FILE", tls.certificateFile, &settings)
        if Self.checkFile(\.connection.tls.keyFile, "TLS_KEY_FILE", tls.keyFile, &settings), let key = tls.keyFile,
            Self.isOpenToOthers(key)
        {
            settings.warn(
                \Self.connection.tls.keyFile, "others can read this key", hint: "run: chmod 600 \(key.shellWord)")
        }
        if tls.certificateFile != nil, tls.keyFile == nil {
            settings.refuse(
                \Self.connection.tls.certificateFile, "a certificate needs its key",
                hint: "set TLS_KEY_FILE")
        }
        if tls.keyFile != nil, tls.certificateFile == nil {
            settings.refuse(
                \Self.connection.tls.keyFile, "a key needs its certificate", hint: "set TLS_CERT_FILE")
        }
        if tls.requirement != .demand {
            settings.warn(
                \Self.connection.tls.requirement, "the identity of the LDAP server is not verified",
                hint: "write demand, and name the authority in TLS_CA_FILE")
        }
        // The system's list is used without a setting.
        if isReadable, tls.caFile == nil, let list = tls.authorities {
            Self.checkTrust(\.connection.tls.caFile, "TLS_CA_FILE", list, &settings)
        }
    }

    private func credentials(_ servers: [ServerAddress], _ settings: inout Settings) -> Credentials {
        if isExternal {
            if user != nil {
                settings.warn(
                    \Self.user, "not used with SASL_MECHANISM = EXTERNAL",
                    hint: "take the line out, or set SASL_MECHANISM = none")
            }
            if connection.tls.certificateFile == nil, servers.contains(where: { !$0.isLocalSocket }) {
                settings.refuse(
                    \Self.isExternal, "EXTERNAL needs a certificate of the daemon, except over ldapi",
                    hint: "set TLS_CERT_FILE and TLS_KEY_FILE, or reach the server by ldapi:///")
            }
            return .external
        }
        guard let user, !user.isEmpty else {
            if password != nil {
                settings.refuse(\Self.password, "a password needs its bind DN", hint: "set ADMIN_USER")
            }
            settings.warn(
                \Self.user, "the daemon binds anonymously, and few LDAP servers permit anonymous clients to write",
                hint: "set ADMIN_USER and ADMIN_PASSWORD_FILE, or SASL_MECHANISM = EXTERNAL")
            return .anonymous
        }
        guard let password else {
            if !settings.isFaulty(\Self.password) {
                settings.refuse(
                    \Self.user, "there is no password for it",
                    hint: "set ADMIN_PASSWORD_FILE or ADMIN_PASSWORD, or SASL_MECHANISM = EXTERNAL")
            }
            return .anonymous
        }
        if let open = servers.first(where: { !$0.isEncrypted && !$0.isLocal }), !connection.tls.startTLS {
            settings.warn(
                \Self.servers, "the password is sent to \(open) without encryption",
                hint: "write ldaps://, or set START_TLS = yes")
        }
        return .simple(bindDN: user, password: password)
    }

    /// - Returns: whether the file can be read and trusted, or no file is named.
    @discardableResult
    private static func checkFile(
        _ property: PartialKeyPath<Self>, _ key: String, _ path: String?, _ settings: inout Settings
    ) -> Bool {
        guard let path else { return true }
        guard access(path, R_OK) == 0 else {
            settings.refuse(
                property, "the file cannot be read: \(String(cString: strerror(errno)))",
                hint: "check the path, and let the daemon's user read it")
            return false
        }
        return checkTrust(property, key, path, &settings)
    }

    @discardableResult
    private static func checkTrust(
        _ property: PartialKeyPath<Self>, _ key: String, _ path: String, _ settings: inout Settings
    ) -> Bool {
        guard let fault = TrustedPath(key, FilePath(path), .file).fault else { return true }
        settings.refuse(property, fault.finding, hint: fault.hint)
        return false
    }

    private static func isOpenToOthers(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & 0o006 != 0
    }
}

extension ServerAddress {
    fileprivate var isLocalSocket: Bool {
        if case .local = endpoint { true } else { false }
    }

    /// Whether no network is used.
    fileprivate var isLocal: Bool {
        switch endpoint {
        case .local: true
        case .tcp(let host, _, _): host == "localhost" || host.hasPrefix("127.") || host == "::1"
        }
    }

    fileprivate var isEncrypted: Bool {
        if case .tcp(_, _, tls: true) = endpoint { true } else { false }
    }
}
