import Sandbox
import Testing

/// The schema as a server serves it, against the published numbers, syntaxes and rules.
@Suite struct SchemaTests {
    struct AttributeType: Sendable, CustomTestStringConvertible {
        var number: Int
        var names: [String]
        var syntax: String
        var equality: String
        var substring = false
        var single: Bool
        var testDescription: String { names[0] }
    }

    struct AuxiliaryClass: Sendable, CustomTestStringConvertible {
        var number: Int
        var name: String
        var must: Set<String>
        var may: Set<String>
        var testDescription: String { name }
    }

    private static func integer(_ number: Int, _ name: String, _ bound: String = "") -> AttributeType {
        AttributeType(number: number, names: [name], syntax: "27" + bound, equality: "integerMatch", single: true)
    }

    private static func boolean(_ number: Int, _ name: String) -> AttributeType {
        AttributeType(number: number, names: [name], syntax: "7", equality: "booleanMatch", single: true)
    }

    private static func string(
        _ number: Int, _ name: String, _ bound: String, substring: Bool = false, single: Bool = true
    ) -> AttributeType {
        AttributeType(
            number: number, names: [name], syntax: "15" + bound, equality: "caseIgnoreMatch", substring: substring,
            single: single)
    }

    static let attributes: [AttributeType] = [
        string(16, "sstProvisioningMode", "{8}"), string(17, "sstProvisioningState", "{16}"),
        AttributeType(
            number: 18, names: ["sstProvisioningExecutionDate", "sstProvisioningDate"], syntax: "27",
            equality: "integerMatch", single: true),
        integer(20, "sstQuota"), boolean(44, "sstIsActive"),
        string(57, "sstBelongsToBillingUID", "{256}", substring: true),
        string(58, "sstBelongsToPersonUID", "{256}", substring: true),
        string(59, "sstBelongsToCustomerUID", "{256}", substring: true, single: false),
        string(60, "sstBelongsToResellerUID", "{256}", substring: true, single: false),
        integer(107, "sstVolumeCapacity"), integer(108, "sstVolumeCapacityDefault"),
        integer(109, "sstVolumeCapacityMin"), integer(110, "sstVolumeCapacityMax"),
        integer(111, "sstVolumeCapacityStep"), boolean(130, "sstBackupWarningOn"),
        integer(131, "sstBackupWarningNumbers", "{2}"), integer(132, "sstBackupWarningDays", "{2}"),
        integer(133, "sstNotificationWarningLevel", "{3}"), string(134, "sstNotificationWarningMedium", "{32}"),
        string(135, "sstBackupLastSuccessfulBackup", "", single: false),
        integer(136, "sstBackupIntervalHourly", "{2}"), integer(137, "sstBackupIntervalDaily", "{2}"),
        integer(138, "sstBackupIntervalWeekly", "{2}"), integer(139, "sstBackupIntervalMonthly", "{2}"),
        integer(140, "sstBackupIntervalYearly", "{2}"), integer(182, "sstProvisioningReturnValue", "{3}"),
        AttributeType(
            number: 196, names: ["sstProvisioningExecutionTime"], syntax: "26{64}", equality: "caseIgnoreIA5Match",
            single: false),
        boolean(236, "sstUseSelfcare"), boolean(237, "sstUseSSH"), integer(238, "sstBackupSize"),
        integer(239, "sstIncrementSize"), string(242, "sstNotificationWarning", "{32}", single: false),
    ]

    static let classes: [AuxiliaryClass] = [
        AuxiliaryClass(
            number: 11, name: "sstProvisioning",
            must: ["sstProvisioningExecutionDate", "sstProvisioningMode", "sstProvisioningState"],
            may: ["sstProvisioningReturnValue", "sstProvisioningExecutionTime"]),
        AuxiliaryClass(
            number: 24, name: "sstRelationship", must: [],
            may: [
                "sstBelongsToBillingUID", "sstBelongsToCustomerUID", "sstBelongsToPersonUID", "sstBelongsToResellerUID",
                "sstIsActive",
            ]),
        AuxiliaryClass(
            number: 39, name: "sstBackup",
            must: [
                "sstBackupIntervalHourly", "sstBackupIntervalDaily", "sstBackupIntervalWeekly",
                "sstBackupIntervalMonthly",
                "sstBackupIntervalYearly", "sstBackupWarningDays", "sstBackupWarningNumbers", "sstBackupWarningOn",
                "sstNotificationWarningLevel", "sstNotificationWarningMedium", "sstUseSelfcare", "sstUseSSH",
                "sstIsActive",
            ],
            may: [
                "sstVolumeCapacityDefault", "sstVolumeCapacityMin", "sstVolumeCapacityMax", "sstVolumeCapacityStep",
                "mail",
                "sstBackupLastSuccessfulBackup", "sstQuota", "preferredLanguage", "sstBackupSize", "sstIncrementSize",
                "sstNotificationWarning", "loginShell", "shadowMax", "shadowWarning", "shadowFlag",
            ]),
        AuxiliaryClass(
            number: 64, name: "sstServiceConfigurationObjectClass", must: ["sstIsActive"], may: ["uid"]),
    ]

    /// The definitions that the server serves, one a line.
    private func definitions(_ sandbox: LDAPSandbox, _ kind: String) async throws -> [Substring] {
        let search = try await ldap(
            "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
            ["-LLL", "-o", "ldif-wrap=no", "-b", "cn=Subschema", "-s", "base", kind])
        return search.output.split(separator: "\n").filter { $0.contains("( 1.3.6.1.4.1.22621.") }
    }

    @Test func `every attribute has its published number, syntax and matching rules`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            let served = try await definitions(sandbox, "attributeTypes")
            #expect(served.count == Self.attributes.count)
            for attribute in Self.attributes {
                let line = try #require(
                    served.first { $0.contains("( 1.3.6.1.4.1.22621.1.1.\(attribute.number) ") }, "\(attribute.names)")
                let names = attribute.names.map { "'\($0)'" }.joined(separator: " ")
                #expect(line.contains(attribute.names.count == 1 ? "NAME \(names) " : "NAME ( \(names) ) "), "\(line)")
                #expect(line.contains(" SYNTAX 1.3.6.1.4.1.1466.115.121.1.\(attribute.syntax) "), "\(line)")
                #expect(line.contains(" EQUALITY \(attribute.equality) "), "\(line)")
                #expect(line.contains(" SUBSTR caseIgnoreSubstringsMatch ") == attribute.substring, "\(line)")
                #expect(line.contains(" SINGLE-VALUE ") == attribute.single, "\(line)")
            }
        }
    }

    @Test func `every class has its published number, kind and attributes`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            let served = try await definitions(sandbox, "objectClasses")
            #expect(served.count == Self.classes.count)
            for auxiliary in Self.classes {
                let line = try #require(
                    served.first { $0.contains("( 1.3.6.1.4.1.22621.1.2.\(auxiliary.number) ") }, "\(auxiliary.name)")
                #expect(line.contains("NAME '\(auxiliary.name)' "))
                #expect(line.contains(" SUP top AUXILIARY "))
                #expect(Self.list("MUST", in: line) == auxiliary.must)
                #expect(Self.list("MAY", in: line) == auxiliary.may)
            }
        }
    }

    /// The attributes after a keyword: one name, or several in brackets.
    static func list(_ keyword: String, in line: Substring) -> Set<String> {
        guard let start = line.firstRange(of: " \(keyword) ")?.upperBound else { return [] }
        let words = line[start...].split(separator: " ")
        guard words.first == "(" else { return Set(words.prefix(1).map(String.init)) }
        return Set(words.dropFirst().prefix { $0 != ")" }.filter { $0 != "$" }.map(String.init))
    }

    @Test func `the execution date is found and read by either of its names`() async throws {
        try await LDAPSandbox.temporary { sandbox in
            let ldif = accountLDIF(3_723_707).replacing(
                "sstProvisioningExecutionDate: 0", with: "sstProvisioningDate: 20260101")
            try await sandbox.load(ldif)
            let found = try await ldap(
                "ldapsearch", sandbox, as: sandbox.daemonDN, sandbox.daemonPassword,
                [
                    "-LLL", "-b", SandboxTree.accountsDN, "(sstProvisioningExecutionDate=20260101)",
                    "sstProvisioningDate",
                ])
            #expect(found.output.contains(": 20260101\n"))
        }
    }
}
