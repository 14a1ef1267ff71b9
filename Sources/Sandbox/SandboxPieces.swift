import Glibc
package import SystemPackage

/// The directory of the shipped files for an LDAP server: schema, indexes, limits, access rules and example tree.
package struct SandboxPieces: Sendable {
    /// The file that identifies the directory.
    static let landmark = "stoney-cloud.schema"
    /// Where a package or an administrator installs the directory.
    static let installed: [FilePath] = [
        "/usr/share/prov-backup-rsnapshot/openldap", "/etc/Provisioning/openldap",
    ]

    package let directory: FilePath

    /// - Parameter named: nil: `etc/openldap` in the directory of this program or in one above it, else where it is installed.
    /// - Throws: ``SandboxError/Code/pieces`` with the directories that were searched.
    package init(at named: FilePath? = nil) throws(SandboxError) {
        let candidates: [FilePath]
        if let named {
            candidates = [named]
        } else {
            candidates = Self.above(Self.program()) + Self.installed
        }
        for candidate in candidates where access(candidate.appending(Self.landmark).string, R_OK) == 0 {
            directory = candidate
            return
        }
        let places = candidates.map(\.string).joined(separator: ", ")
        throw SandboxError(
            .pieces, "no \(Self.landmark) that can be read in \(places)",
            hint: "install the files that prov-backup-rsnapshot(8), LDAP SERVER, names")
    }

    func file(_ name: String) -> FilePath { directory.appending(name) }

    /// `etc/openldap` in the directory of a program and in each directory above it, the nearest first.
    static func above(_ program: FilePath?) -> [FilePath] {
        var candidates: [FilePath] = []
        var files = program
        while files?.removeLastComponent() == true, let here = files {
            candidates.append(here.appending("etc").appending("openldap"))
        }
        return candidates
    }

    private static func program() -> FilePath? {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = bytes.withUnsafeMutableBytes { buffer in
            buffer.withMemoryRebound(to: CChar.self) { room in
                room.baseAddress.map { readlink("/proc/self/exe", $0, room.count) } ?? 0
            }
        }
        return count > 0 ? FilePath(String(decoding: bytes[..<count], as: UTF8.self)) : nil
    }
}

/// The names in the shipped example tree and in the access rules that go with it.
package enum SandboxTree {
    /// The root of the tree.
    package static let suffix = "dc=stoney-cloud,dc=org"
    /// The rootdn, to which no access rule or limit applies.
    package static let managerDN = "cn=Manager,dc=stoney-cloud,dc=org"
    /// The daemon: reads the accounts and writes the results.
    package static let daemonDN = "cn=prov-backup-rsnapshot,ou=programs,dc=stoney-cloud,dc=org"
    /// The web page for accounts, which writes the requests.
    package static let selfcareDN = "cn=selfcare,ou=programs,dc=stoney-cloud,dc=org"
    /// The entry below which the accounts live.
    package static let accountsDN = "ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org"
    /// The service's own entry, with `sstIsActive`; the daemon does not read it.
    package static let switchDN =
        "ou=prov-backup-rsnapshot,ou=configuration,ou=backup,ou=services,dc=stoney-cloud,dc=org"

    /// The line of a DN without a password in the shipped tree.
    static let noPassword = "userPassword: {CRYPT}*"

    /// The shipped tree with passwords in place of ``noPassword``.
    ///
    /// - Parameter passwords: by DN.
    /// - Throws: ``SandboxError/Code/pieces`` if the tree has no line for one of them.
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
