/// The names in the shipped example tree and in the access rules that go with it.
package enum SandboxTree {
    /// The root of the tree.
    package static let suffix = "dc=stoney-cloud,dc=org"
    /// May do everything and is bound by no access rule or limit.
    package static let managerDN = "cn=Manager,dc=stoney-cloud,dc=org"
    /// The daemon: reads what it needs of the accounts and writes the outcome.
    package static let daemonDN = "cn=prov-backup-rsnapshot,ou=programs,dc=stoney-cloud,dc=org"
    /// What writes the wishes: makes, changes and removes accounts.
    package static let selfcareDN = "cn=selfcare,ou=programs,dc=stoney-cloud,dc=org"
    /// The entry below which the accounts live.
    package static let accountsDN = "ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org"
    /// The service's switch, with `sstIsActive`.
    package static let switchDN =
        "ou=prov-backup-rsnapshot,ou=configuration,ou=backup,ou=services,dc=stoney-cloud,dc=org"

    /// The value by which the shipped tree says that a DN has no password yet.
    static let noPassword = "userPassword: {CRYPT}*"

    /// The shipped tree with passwords in place of ``noPassword``.
    ///
    /// - Parameter passwords: the password of each DN that shall be able to log in.
    /// - Throws: ``SandboxError/Code/pieces`` where the tree has no place for one of them.
    static func text(_ shipped: String, passwords: [String: String]) throws(SandboxError) -> String {
        var missing = Set(passwords.keys)
        var current: String?
        var lines: [String] = []
        for line in shipped.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("dn: ") { current = String(line.dropFirst(4)) }
            if line == noPassword, let dn = current, let password = passwords[dn] {
                lines.append("userPassword: \(password)")
                missing.remove(dn)
            } else {
                lines.append(String(line))
            }
        }
        if let dn = missing.min() {
            throw SandboxError(
                .pieces, "example-tree.ldif has no entry \(dn) with the line \"\(noPassword)\"",
                hint: "take the file from the same version of the program")
        }
        return lines.joined(separator: "\n")
    }
}
