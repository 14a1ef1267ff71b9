import Sandbox
import Testing

/// The shipped access rules and limits, tried out against a real server.
@Suite struct AccessTests {
    static let uid = 3_723_707

    /// What the daemon may write, with a value that differs from the account's.
    static let written = [
        ("sstProvisioningMode", "adding"), ("sstProvisioningState", "20260101T120000Z"),
        ("sstProvisioningReturnValue", "5"), ("provisioningClaim", "backup-01 4711"), ("sstBackupSize", "1"),
        ("sstIncrementSize", "2"), ("sstBackupLastSuccessfulBackup", "host.example.org:20260101T120000Z"),
    ]

    /// What it may read and not write, with a value that the schema would allow.
    static let readOnly = [
        ("sstProvisioningExecutionDate", "20260101"), ("sstProvisioningExecutionTime", "home: 0.100"),
        ("sstQuota", "1"), ("sstIsActive", "FALSE"), ("sstBackupIntervalDaily", "1"), ("sstUseSSH", "FALSE"),
        ("sstBelongsToCustomerUID", "1"), ("sstNotificationWarning", "mail"), ("mail", "a@example.org"),
        ("host", "backup-02"), ("uidNumber", "1"), ("gidNumber", "0"), ("homeDirectory", "/"),
        ("loginShell", "/bin/false"), ("cn", "other"), ("gecos", "other"), ("description", "other"), ("shadowMax", "1"),
        ("preferredLanguage", "de"), ("objectClass", "extensibleObject"),
    ]

    /// What it may neither read nor write.
    static let hidden = [("userPassword", "x"), ("shadowLastChange", "1"), ("seeAlso", "dc=stoney-cloud,dc=org")]

    private func modify(
        _ sandbox: LDAPSandbox, _ dn: String, _ password: String, _ change: String
    ) async throws -> Int32 {
        try await ldap("ldapmodify", sandbox, as: dn, password, [], input: change).code
    }

    private func replace(_ target: String, _ attribute: String, _ value: String) -> String {
        "dn: \(target)\nchangetype: modify\nreplace: \(attribute)\n\(attribute): \(value)\n-\n"
    }

    private func add(_ target: String, _ attribute: String, _ value: String) -> String {
        "dn: \(target)\nchangetype: modify\nadd: \(attribute)\n\(attribute): \(value)\n-\n"
    }

    private func delete(_ target: String, _ attribute: String) -> String {
        "dn: \(target)\nchangetype: modify\ndelete: \(attribute)\n-\n"
    }

    @Test func `the daemon writes and removes states, the claim and the sizes`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            try await sandbox.load(accountLDIF(Self.uid))
            let (dn, password, account) = (sandbox.daemonDN, sandbox.daemonPassword, accountDN(Self.uid))
            for (attribute, value) in Self.written {
                #expect(
                    try await modify(sandbox, dn, password, replace(account, attribute, value)) == 0, "\(attribute)")
                let read = try await ldap(
                    "ldapsearch", sandbox, as: dn, password, ["-LLL", "-b", account, "-s", "base", attribute])
                #expect(read.output.contains("\(attribute): \(value)\n"))
            }
            for attribute in ["sstProvisioningReturnValue", "provisioningClaim"] {
                #expect(try await modify(sandbox, dn, password, delete(account, attribute)) == 0, "\(attribute)")
            }
        }
    }

    @Test func `the access rules let the daemon assert and read its own attributes`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            try await sandbox.load(accountLDIF(Self.uid))
            let account = accountDN(Self.uid)
            let claim = """
                dn: \(account)
                changetype: modify
                delete: sstProvisioningMode
                sstProvisioningMode: add
                -
                add: sstProvisioningMode
                sstProvisioningMode: adding
                -

                """
            let claimed = try await ldap(
                "ldapmodify", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                ["-e", "!assert=(sstProvisioningMode=add)", "-e", "postread=entryCSN,entryUUID"], input: claim)
            #expect(claimed.code == 0, "\(claimed.errors)")
            #expect(claimed.output.contains("entryCSN: "))
            let compared = try await ldap(
                "ldapcompare", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                [account, "sstProvisioningMode:adding"])
            #expect(compared.code == 6)
        }
    }

    @Test func `the daemon may write nothing else of an account`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            try await sandbox.load(accountLDIF(Self.uid))
            let account = accountDN(Self.uid)
            let (dn, password) = (sandbox.daemonDN, sandbox.daemonPassword)
            for (attribute, value) in Self.readOnly + Self.hidden {
                for change in [
                    replace(account, attribute, value), add(account, attribute, value), delete(account, attribute),
                ] {
                    #expect(try await modify(sandbox, dn, password, change) == 50, "\(change)")
                }
            }
            let written = Self.written.map(\.0)
            for line in accountLDIF(Self.uid).split(separator: "\n").dropFirst() {
                let attribute = String(line.prefix { $0 != ":" })
                guard !written.contains(attribute) else { continue }
                #expect(try await modify(sandbox, dn, password, delete(account, attribute)) == 50, "\(attribute)")
            }
            let after = try await ldap(
                "ldapsearch", sandbox, as: sandbox.adminDN, sandbox.adminPassword,
                ["-LLL", "-o", "ldif-wrap=no", "-b", account, "-s", "base"])
            for line in accountLDIF(Self.uid).split(separator: "\n") where !line.hasPrefix("userPassword") {
                #expect(after.output.split(separator: "\n").contains(line))
            }
        }
    }

    @Test func `the daemon may neither add nor rename nor remove an entry, nor write anywhere else`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            try await sandbox.load(accountLDIF(Self.uid))
            let account = accountDN(Self.uid)
            let changes = [
                accountLDIF(Self.uid + 1).replacing("objectClass: top", with: "changetype: add\nobjectClass: top"),
                "dn: \(account)\nchangetype: delete\n",
                "dn: \(account)\nchangetype: modrdn\nnewrdn: uid=1\ndeleteoldrdn: 0\n",
                "dn: ou=new,\(account)\nchangetype: add\nobjectClass: organizationalUnit\nou: new\n",
                "dn: ou=new,\(SandboxTree.suffix)\nchangetype: add\nobjectClass: organizationalUnit\nou: new\n",
                replace(SandboxTree.switchDN, "sstIsActive", "FALSE"),
                "dn: \(SandboxTree.switchDN)\nchangetype: delete\n",
                replace(SandboxTree.accountsDN, "description", "x"), replace(SandboxTree.suffix, "o", "x"),
                replace(SandboxTree.daemonDN, "userPassword", "x"),
                replace(SandboxTree.selfcareDN, "userPassword", "x"),
            ]
            for change in changes {
                let code = try await modify(sandbox, sandbox.daemonDN, sandbox.daemonPassword, change)
                #expect(code == 50 || code == 32, "\(change)")
            }
            let count = try await ldap(
                "ldapsearch", sandbox, as: sandbox.adminDN, sandbox.adminPassword,
                ["-LLL", "-b", SandboxTree.suffix, "(objectClass=*)", "1.1"])
            #expect(count.output.split(separator: "\n").filter { $0.hasPrefix("dn: ") }.count == 10)
        }
    }

    @Test func `the daemon reads its attributes of an account, and no password`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            try await sandbox.load(accountLDIF(Self.uid))
            let read = try await ldap(
                "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                ["-LLL", "-o", "ldif-wrap=no", "-b", SandboxTree.accountsDN, "(sstProvisioningState=0)", "*", "+"])
            #expect(read.code == 0)
            let lines = read.output.split(separator: "\n")
            let hidden = ["userPassword", "shadowLastChange"]
            for line in accountLDIF(Self.uid).split(separator: "\n") {
                let isHidden = hidden.contains { line.hasPrefix($0) }
                #expect(lines.contains(line) != isHidden, "\(line)")
            }
            #expect(!hidden.contains { read.output.contains($0) })
            for operational in ["entryUUID", "entryCSN", "modifyTimestamp"] {
                #expect(lines.contains { $0.hasPrefix(operational + ": ") }, "\(operational)")
            }
            let compare = try await ldap(
                "ldapcompare", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                [accountDN(Self.uid), "userPassword:secret of \(Self.uid)"])
            #expect(compare.code == 50)
            let guess = try await ldap(
                "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                ["-LLL", "-b", SandboxTree.accountsDN, "(userPassword=*)", "1.1"])
            #expect(guess.output.isEmpty)
        }
    }

    @Test func `the daemon sees the service's switch and no other program`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            let found = try await ldap(
                "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                ["-LLL", "-o", "ldif-wrap=no", "-b", SandboxTree.switchDN, "-s", "base", "sstIsActive"])
            #expect(found.output == "dn: \(SandboxTree.switchDN)\nsstIsActive: TRUE\n\n")
            let others = try await ldap(
                "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                ["-LLL", "-b", "ou=programs,\(SandboxTree.suffix)"])
            #expect(others.code == 32)
        }
    }

    @Test func `the self-care page makes, changes and removes accounts and nothing else`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            let (dn, password, account) = (sandbox.selfcareDN, sandbox.selfcarePassword, accountDN(Self.uid))
            let added = try await ldap("ldapadd", sandbox, as: dn, password, [], input: accountLDIF(Self.uid))
            #expect(added.code == 0, "\(added.errors)")
            for (attribute, value) in [
                ("sstProvisioningMode", "modify"), ("sstProvisioningState", "0"), ("sstQuota", "1"),
                ("userPassword", "new"), ("sstIsActive", "FALSE"),
            ] {
                #expect(
                    try await modify(sandbox, dn, password, replace(account, attribute, value)) == 0, "\(attribute)")
            }
            #expect(try await ldap("ldapwhoami", sandbox, as: account, "new", []).code == 0)
            #expect(
                try await modify(sandbox, dn, password, replace(SandboxTree.switchDN, "sstIsActive", "FALSE")) == 50)
            let removed = try await ldap("ldapdelete", sandbox, as: dn, password, [account])
            #expect(removed.code == 0, "\(removed.errors)")
        }
    }

    @Test func `an anonymous client sees only the server's capabilities`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            try await sandbox.load(accountLDIF(Self.uid))
            let root = try await command(
                "/usr/bin/ldapsearch", ["-x", "-LLL", "-H", sandbox.uri, "-b", "", "-s", "base", "supportedControl"])
            #expect(root.output.contains("supportedControl: 1.3.6.1.1.12\n"))
            let tree = try await command(
                "/usr/bin/ldapsearch", ["-x", "-LLL", "-H", sandbox.uri, "-b", SandboxTree.suffix])
            #expect(tree.code == 32 && tree.output.isEmpty)
            let account = try await ldap(
                "ldapsearch", sandbox, as: accountDN(Self.uid), "secret of \(Self.uid)",
                ["-LLL", "-b", SandboxTree.accountsDN])
            #expect(account.code == 32 && account.output.isEmpty)
        }
    }

    @Test func `the size limit of 500 does not apply to the daemon`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            try await sandbox.load((1...510).map { accountLDIF(4_000_000 + $0) }.joined(separator: "\n"))
            for extra in [[], ["-E", "pr=100/noprompt"]] {
                let search = ["-LLL", "-b", SandboxTree.accountsDN] + extra + ["(uid=*)", "1.1"]
                let daemon = try await ldap("ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword, search)
                #expect(daemon.code == 0)
                #expect(daemon.output.split(separator: "\n").filter { $0.hasPrefix("dn: ") }.count == 510)
                let selfcare = try await ldap(
                    "ldapsearch", sandbox, as: sandbox.selfcareDN, sandbox.selfcarePassword, search)
                #expect(selfcare.code == 4)
            }
        }
    }
}
