import DaemonKit
import DirectoryClient
import DirectoryModel
import Glibc
import JobCore
import SystemPackage

extension DaemonSettings.Directory {
    /// `[Database]` as a whole: who is reached, as whom, and how safely.
    init(checking raw: inout Settings) {
        let servers = Self.servers(checking: &raw)
        let tls = Self.tls(checking: &raw)
        let bind = Self.bind(checking: &raw, servers: servers, tls: tls)
        let subtree = raw[DatabaseSection.serviceSubtree]
        if subtree.isEmpty {
            raw.refuse(
                DatabaseSection.serviceSubtree, "it is not said where the accounts lie",
                cure: "write the entry above them, such as ou=accounts,ou=backup,ou=services,dc=example,dc=org")
        }
        self.init(
            servers: servers, bind: bind,
            password: raw.file(of: DatabaseSection.adminPassword).map { "ADMIN_PASSWORD_FILE (\($0))" }
                ?? "ADMIN_PASSWORD (\(raw.place(of: DatabaseSection.adminPassword)))", tls: tls, subtree: subtree,
            condition: raw[DatabaseSection.searchFilter],
            detection: raw[DatabaseSection.detection], pollInterval: raw[DatabaseSection.pollInterval],
            relistInterval: raw[DatabaseSection.relistInterval], connectTimeout: raw[DatabaseSection.connectTimeout],
            operationTimeout: raw[DatabaseSection.operationTimeout])
    }

    private static func servers(checking raw: inout Settings) -> [ServerAddress] {
        let texts = raw[DatabaseSection.server]
        if texts.isEmpty {
            raw.refuse(
                DatabaseSection.server, "no directory server is named",
                cure: "write one, such as ldaps://ldap.example.org")
        }
        let port = raw[DatabaseSection.port].map { UInt16(clamping: $0) }
        return texts.compactMap { text in
            do throws(ServerAddress.Invalid) {
                guard text.contains("://") else { return try ServerAddress(parsing: text, defaultPort: port) }
                let server = try ServerAddress(parsing: text)
                if try server != ServerAddress(parsing: text, defaultPort: port) {
                    raw.warn(
                        DatabaseSection.port, "it counts for host names alone, and \(text) is an address",
                        cure: "write the port into the address, or take the line out")
                }
                return server
            } catch {
                raw.refuse(
                    DatabaseSection.server, "\(text): \(error.reason)",
                    cure: "write ldap://HOST, ldaps://HOST or ldapi:///, or the name of a host")
                return nil
            }
        }
    }

    private static func tls(checking raw: inout Settings) -> TLSOptions {
        let key = raw[DatabaseSection.tlsKeyFile]
        let certificate = raw[DatabaseSection.tlsCertFile]
        let authorities = checkReadable(DatabaseSection.tlsCAFile, &raw)
        checkReadable(DatabaseSection.tlsCertFile, &raw)
        if checkReadable(DatabaseSection.tlsKeyFile, &raw), let key, isOpenToOthers(key) {
            raw.warn(DatabaseSection.tlsKeyFile, "others can read this key", cure: "run: chmod 600 \(key.shellWord)")
        }
        if certificate != nil, key == nil {
            raw.refuse(
                DatabaseSection.tlsCertFile, "a certificate without its key is of no use", cure: "set TLS_KEY_FILE")
        }
        if key != nil, certificate == nil {
            raw.refuse(
                DatabaseSection.tlsKeyFile, "a key without its certificate is of no use", cure: "set TLS_CERT_FILE")
        }
        if raw[DatabaseSection.tlsRequire] != .demand {
            raw.warn(
                DatabaseSection.tlsRequire, "anybody can pretend to be the directory server",
                cure: "write demand, and name the authority in TLS_CA_FILE")
        }
        let requirement: TLSOptions.Requirement =
            switch raw[DatabaseSection.tlsRequire] {
            case .demand: .demand
            case .allow: .allow
            case .never: .never
            }
        let options = TLSOptions(
            startTLS: raw[DatabaseSection.startTLS], caFile: raw[DatabaseSection.tlsCAFile],
            certificateFile: certificate,
            keyFile: key, requirement: requirement)
        // The system's list is nobody's setting; what it says is believed all the same.
        if authorities, options.caFile == nil, let list = options.authorities {
            checkTrust(DatabaseSection.tlsCAFile, list, &raw)
        }
        return options
    }

    private static func bind(
        checking raw: inout Settings, servers: [ServerAddress], tls: TLSOptions
    ) -> DaemonSettings.Bind {
        let user = raw[DatabaseSection.adminUser]
        let password = raw[DatabaseSection.adminPassword]
        if raw[DatabaseSection.saslMechanism] == .external {
            if user != nil {
                raw.warn(
                    DatabaseSection.adminUser, "with SASL_MECHANISM = EXTERNAL it is not used",
                    cure: "take the line out, or set SASL_MECHANISM = none")
            }
            if tls.certificateFile == nil, servers.contains(where: { !$0.isLocalSocket }) {
                raw.refuse(
                    DatabaseSection.saslMechanism,
                    "except over ldapi, EXTERNAL needs a certificate of the daemon's own",
                    cure: "set TLS_CERT_FILE and TLS_KEY_FILE, or reach the server by ldapi:///")
            }
            return .external
        }
        guard let user, !user.isEmpty else {
            if password != nil {
                raw.refuse(
                    DatabaseSection.adminPassword, "it is not said whose password this is", cure: "set ADMIN_USER")
            }
            raw.warn(
                DatabaseSection.adminUser,
                "the daemon does not say who it is, and few directories let such clients write",
                cure: "set ADMIN_USER and ADMIN_PASSWORD_FILE, or SASL_MECHANISM = EXTERNAL")
            return .anonymous
        }
        guard let password else {
            if !raw.isFaulty(DatabaseSection.adminPassword) {
                raw.refuse(
                    DatabaseSection.adminUser, "there is no password for it",
                    cure: "set ADMIN_PASSWORD_FILE or ADMIN_PASSWORD, or SASL_MECHANISM = EXTERNAL")
            }
            return .anonymous
        }
        if let open = servers.first(where: { !$0.isEncrypted && !$0.isLocal }), !tls.startTLS {
            raw.warn(
                DatabaseSection.server, "the password goes to \(open) in the clear",
                cure: "write ldaps://, or set START_TLS = yes")
        }
        return .simple(user, password)
    }

    @discardableResult
    private static func checkReadable(_ key: SettingKey<String?>, _ raw: inout Settings) -> Bool {
        guard let path = raw[key] else { return true }
        guard access(path, R_OK) == 0 else {
            raw.refuse(
                key, "the file cannot be read: \(String(cString: strerror(errno)))",
                cure: "check the path, and let the daemon's user read it")
            return false
        }
        return checkTrust(key, path, &raw)
    }

    @discardableResult
    private static func checkTrust(_ key: SettingKey<String?>, _ path: String, _ raw: inout Settings) -> Bool {
        guard let fault = TrustedPath(key.name, FilePath(path), .file).fault else { return true }
        raw.refuse(key, fault.finding, cure: fault.cure)
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

    /// Whether nothing goes over the network.
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
