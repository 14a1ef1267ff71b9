import DaemonKit
import DirectoryModel
import Provisioning

/// `[Database]`: the directory, and how it is reached and watched.
enum DatabaseSection {
    static let name = SectionName("Database")

    /// What keeps the accounts.
    enum Backend: String, CaseIterable, Sendable { case ldap = "LDAP" }
    /// How the daemon proves who it is, apart from a password.
    enum Mechanism: String, CaseIterable, Sendable { case none, external = "EXTERNAL" }
    /// What becomes of a server whose certificate is not trusted.
    enum CertificateRequirement: String, CaseIterable, Sendable { case demand, allow, never }

    private static let wait = Duration.seconds(1)...Quantity.longest

    static let backend = SettingKey(
        name, "BACKEND", .choice(Backend.self), default: .ldap, meaning: "What keeps the accounts; there is one kind.")
    static let server = SettingKey(
        name, "SERVER", .words, default: [], example: "ldapi:///",
        meaning: """
            The directory servers in the order of preference, split by blanks: ldap://HOST, ldaps://HOST, ldapi:/// (a \
            local socket), or host names. Must be set.
            """)
    static let port = SettingKey(
        name, "PORT", SettingKind<Int>.number(1...65_535).orEmpty, default: nil, note: "389",
        meaning: "The port of servers that are written as host names; an address holds its own.")
    static let adminUser = SettingKey(
        name, "ADMIN_USER", SettingKind<DN>.dn.orEmpty, default: nil,
        meaning: "The entry as which the daemon binds. It needs a password.")
    static let adminPassword = SettingKey(
        name, "ADMIN_PASSWORD", .secret, default: nil,
        meaning: "The password of ADMIN_USER. A file that holds it must be its owner's alone (chmod 600).")
    static let saslMechanism = SettingKey(
        name, "SASL_MECHANISM", .choice(Mechanism.self), default: .none, example: "EXTERNAL",
        meaning: """
            EXTERNAL takes who the daemon is from the ldapi socket or from its TLS certificate; then it needs no \
            ADMIN_USER and no password.
            """)
    static let startTLS = SettingKey(
        name, "START_TLS", .boolean, default: false,
        meaning: "Whether connections to ldap:// servers are encrypted before anything else is said.")
    static let tlsCAFile = SettingKey(
        name, "TLS_CA_FILE", SettingKind<String>.path.orEmpty, default: nil, note: "the system's",
        meaning: "The certificates (PEM) of the authorities that are trusted.")
    static let tlsCertFile = SettingKey(
        name, "TLS_CERT_FILE", SettingKind<String>.path.orEmpty, default: nil,
        meaning: "The daemon's own certificate (PEM), where servers ask for one; needs TLS_KEY_FILE.")
    static let tlsKeyFile = SettingKey(
        name, "TLS_KEY_FILE", SettingKind<String>.path.orEmpty, default: nil,
        meaning: "The key (PEM) of the daemon's own certificate.")
    static let tlsRequire = SettingKey(
        name, "TLS_REQUIRE", .choice(CertificateRequirement.self), default: .demand,
        meaning: "Whether a server's certificate must be trusted and name the server: demand; allow and never take any."
    )
    static let serviceSubtree = SettingKey(
        name, "SERVICE_SUBTREE", SettingKind<DN>.dn, default: .root,
        example: "ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org",
        meaning: "The entry below which the accounts lie. Must be set.")
    static let searchFilter = SettingKey(
        name, "SEARCH_FILTER", .condition, default: nil,
        meaning: "A further condition that accounts must meet, such as (sstBelongsToResellerUID=4000000).")
    static let detection = SettingKey(
        name, "DETECTION", .choice(Detection.self), default: .auto,
        meaning: """
            How wishes are noticed: persist has the server tell at once (RFC 4533), poll asks again and again, auto takes \
            persist where the server offers it.
            """)
    static let pollInterval = SettingKey(
        name, "POLL_INTERVAL", .duration(wait), default: .seconds(10), meaning: "How often poll asks.")
    static let relistInterval = SettingKey(
        name, "RELIST_INTERVAL", .duration(wait), default: .seconds(300),
        meaning: "How often everything is looked through once more, whatever was noticed in between.")
    static let connectTimeout = SettingKey(
        name, "CONNECT_TIMEOUT", .duration(wait), default: .seconds(10),
        meaning: "How long connecting, encrypting and binding may take together.")
    static let operationTimeout = SettingKey(
        name, "OPERATION_TIMEOUT", .duration(wait), default: .seconds(30),
        meaning: "How long the directory may take to answer one request.")

    private static let noCookie = "what is to be done stands in the entries themselves, no position is kept"

    static let section = SettingsSection(
        name, meaning: "The directory that holds the accounts.",
        keys: [
            backend.declaration, server.declaration, port.declaration, saslMechanism.declaration,
            adminUser.declaration, adminPassword.declaration, startTLS.declaration, tlsCAFile.declaration,
            tlsCertFile.declaration, tlsKeyFile.declaration, tlsRequire.declaration, serviceSubtree.declaration,
            searchFilter.declaration, detection.declaration, pollInterval.declaration, relistInterval.declaration,
            connectTimeout.declaration, operationTimeout.declaration,
        ],
        retired: [
            RetiredSetting("COOKIE_FILE", replacement: noCookie),
            RetiredSetting("DEFAULT_COOKIE", replacement: noCookie),
            RetiredSetting("GROUP_COMMIT", replacement: "it has no effect, every write is sent by itself"),
        ])
}
