import LDAP
import Testing

@testable import prov_backup_rsnapshot

/// cn=config and the subschema, as `check` reads them.
@Suite struct ServerConfigurationTests {
    private static let daemon = "cn=daemon,ou=programs,dc=example,dc=org"

    private func entry(_ dn: String, _ attributes: [AttributeName: [String]]) throws -> Entry {
        Entry(
            dn: try DN(parsing: dn), attributes: attributes.map { Attribute($0, $1.map { AttributeValue($0) }) })
    }

    private func configuration(_ database: [AttributeName: [String]], _ others: [Entry] = []) throws
        -> ServerConfiguration
    {
        let entries =
            try others + [
                entry("olcDatabase={0}config,cn=config", ["olcDatabase": ["{0}config"]]),
                entry(
                    "olcDatabase={1}mdb,cn=config",
                    database.merging(["olcDatabase": ["{1}mdb"], "olcSuffix": ["dc=example,dc=org"]]) { $1 }),
            ]
        return try #require(
            ServerConfiguration(entries, holding: DN(parsing: "ou=accounts,dc=example,dc=org")))
    }

    @Test("the database with the nearest suffix counts, and none where none holds the accounts")
    func database() throws {
        let near = try entry(
            "olcDatabase={2}mdb,cn=config",
            ["olcSuffix": ["ou=accounts,dc=example,dc=org"], "olcDbIndex": ["uid eq"]])
        #expect(try configuration(["olcDbIndex": ["host eq"]], [near]).indexed == ["uid"])
        #expect(ServerConfiguration([near], holding: try DN(parsing: "dc=example,dc=org")) == nil)
    }

    @Test(
        "an index counts if it is for equality, by its own kinds or the default",
        arguments: [
            (["objectClass,entryUUID eq", "uid pres,eq", "cn sub"], ["objectclass", "entryuuid", "uid"]),
            (["default pres,eq", "uid", "host sub"], ["uid"]), (["default sub", "uid"], []), ([], []),
        ] as [([String], Set<String>)])
    func indexes(lines: [String], indexed: Set<String>) throws {
        #expect(try configuration(["olcDbIndex": lines]).indexed == indexed)
    }

    @Test(
        "the first matching rule is the size limit",
        arguments: [
            ([], ServerConfiguration.Limit.entries(500)),
            (["{0}dn.base=\"\(daemon)\" size=unlimited  size.prtotal=unlimited  time=unlimited"], .unlimited),
            (["{0}dn.exact=\"CN=daemon, ou=programs,dc=example,dc=org\" size=none"], .unlimited),
            (["{0}dn.base=\"\(daemon)\" size=unlimited size.prtotal=1000"], .entries(1000)),
            (["{0}dn.base=\"\(daemon)\" size.soft=200 size.hard=unlimited"], .entries(200)),
            (["{0}dn.base=\"\(daemon)\" size.soft=unlimited size.hard=300"], .entries(300)),
            (["{0}dn.base=\"\(daemon)\" size.prtotal=disabled"], .entries(0)),
            (["{0}dn.base=\"\(daemon)\" time=unlimited"], .entries(500)),
            (["{1}* size=unlimited", "{0}users size=20"], .entries(20)),
            (["{0}anonymous size=1", "{1}dn.children=\"ou=programs,dc=example,dc=org\" size=-1"], .unlimited),
            (["{0}dn.base=\"cn=other,dc=example,dc=org\" size=unlimited"], .entries(500)),
            (
                ["{0}group=\"cn=g,dc=example,dc=org\" size=unlimited"],
                .undecided("the rule group=cn=g,dc=example,dc=org")
            ),
        ])
    func limits(rules: [String], limit: ServerConfiguration.Limit) throws {
        #expect(try configuration(["olcLimits": rules]).limit(of: Self.daemon) == limit)
    }

    @Test("without a rule the database's limit counts, else that of all; the root DN has none")
    func defaults() throws {
        let frontend = try entry(
            "olcDatabase={-1}frontend,cn=config",
            ["olcDatabase": ["{-1}frontend"], "olcSizeLimit": ["size.soft=50 size.hard=60"]])
        #expect(try configuration([:], [frontend]).limit(of: Self.daemon) == .entries(50))
        #expect(
            try configuration(["olcSizeLimit": ["unlimited"]], [frontend]).limit(of: Self.daemon) == .unlimited)
        #expect(try configuration(["olcRootDN": [Self.daemon]]).limit(of: Self.daemon) == .unlimited)
        #expect(try configuration(["olcLimits": ["{0}anonymous size=7"]]).limit(of: "") == .entries(7))
    }

    @Test("changes in a subordinate database are only reported if syncprov follows glue")
    func glue() throws {
        func missed(
            _ overlays: [String], subordinate: String = "TRUE", suffix: String = "ou=b,ou=accounts,dc=example,dc=org"
        )
            throws -> [String]
        {
            let others = try overlays.map {
                try entry("olcOverlay=\($0),olcDatabase={1}mdb,cn=config", ["olcOverlay": [$0]])
            }
            let below = try entry(
                "olcDatabase={2}mdb,cn=config", ["olcSuffix": [suffix], "olcSubordinate": [subordinate]])
            return try configuration([:], others + [below]).missedBySync
        }
        let suffix = "ou=b,ou=accounts,dc=example,dc=org"
        #expect(try missed(["{0}syncprov"]) == [suffix])
        #expect(try missed(["{1}glue", "{0}syncprov"], subordinate: "advertise") == [suffix])
        #expect(try missed(["{1}syncprov", "{0}glue"]) == [])
        #expect(try missed(["{0}syncprov"], subordinate: "FALSE") == [])
        #expect(try missed(["{0}syncprov"], suffix: "ou=other,dc=example,dc=org") == [])
        #expect(try missed([]) == [], "without syncprov there is nothing to follow")
    }

    @Test("all names of an attribute are found, without words of its description")
    func schema() throws {
        let entry = try entry(
            "cn=Subschema",
            [
                "attributeTypes": [
                    "( 1.2.3 NAME ( 'sstDate' 'sstOther' ) DESC 'not NAME 'x'' SYNTAX 1.3 )",
                    "( 1.2.4 NAME 'uid' EQUALITY caseIgnoreMatch )", "( 1.2.5 DESC 'NAME' )",
                ], "objectClasses": ["( 1.2.6 NAME 'sstBackup' SUP top AUXILIARY )"],
            ])
        let schema = try #require(ServerSchema(entry))
        #expect(schema.names(of: "SSTother") == ["1.2.3", "sstdate", "sstother"])
        #expect(schema.names(of: "uid;lang-de") != nil)
        #expect(schema.names(of: "x") == nil && schema.names(of: "1.2.5") != nil)
        #expect(schema.knows(class: "sstbackup") && !schema.knows(class: "sstProvisioning"))
        #expect(ServerSchema(try self.entry("cn=Subschema", [:])) == nil)
    }
}
