import LDAP
import Testing

@Suite("Errors in LDIF") struct LDIFErrorTests {
    @Test(
        "A malformed record is refused at its line, and the next one is read",
        arguments: [
            ("cn: a", 1, "begins with \"cn\" instead of dn"),
            ("search: 2\nresult: 0 Success", 1, "begins with \"search\" instead of dn"),
            ("version: 2\ndn: cn=a", 1, "version"),
            ("dn: cn=a\ncn", 2, "\"cn\" has no colon"),
            ("dn: cn=a\n: a", 2, "\"\" is not an attribute name"),
            ("dn: cn=a\nc n: a", 2, "\"c n\" is not an attribute name"),
            ("dn: cn=a\ncn:: YQ", 2, "the value of cn is not base64"),
            ("dn: cn=a\ncn:: YQ= =", 2, "not base64"),
            ("dn: cn=a\ncn:: YR==", 2, "not base64"),
            ("dn: cn=a\ncn:: ====", 2, "not base64"),
            ("dn: cn=a\ncn:: Y*==", 2, "not base64"),
            ("dn: cn=a\nsn: b\ncn: a\n b\n c\u{0}", 3, "the value of cn holds a NUL character"),
            ("dn: cn=a\ncn: a\rb", 2, "carriage return"),
            ("dn: cn=a,b", 1, "character 7: \"=\" is missing after b"),
            ("# c\ndn:\n  cn=a,\n b=;", 2, "character 8: \";\" is not allowed in a value"),
            ("dn:: /w==", 1, "dn is not UTF-8"),
            ("dn:< file:///x", 1, "dn may not come from a URL"),
            ("dn: cn=a\ncn:< file:///x", 2, "cannot be read from \"file:///x\": values from URLs"),
            ("dn: cn=a\ncn: a\ndn: cn=b\ncn: b", 3, "a record begins within a record"),
            ("dn: cn=a\ncn: a\nchangetype: delete", 3, "changetype follows"),
            ("dn: cn=a\nchangetype: replace", 2, "\"replace\" is not a kind of change"),
            ("dn: cn=a\nchangetype: add", 2, "no attributes"),
            ("dn: cn=a\nchangetype: delete\ncn: a", 3, "the change is complete"),
            ("dn: cn=a\n-", 2, "ends no modification"),
            ("dn: cn=a\nchangetype: modify\n-\n", 3, "ends no modification"),
            ("dn: cn=a\nchangetype: modify\ncn: a\n", 3, "\"cn\" does not begin a modification"),
            ("dn: cn=a\nchangetype: modify\nadd: cn\nsn: a\n", 4, "\"sn\" is in a modification of cn"),
            (
                "dn: cn=a\nchangetype: modify\nadd: cn\ncn: a\nadd: sn\nsn: b", 5,
                "\"add\" is in a modification of cn"
            ),
            ("dn: cn=a\nchangetype: modify\nadd: c_n\n", 3, "\"c_n\" is not an attribute name"),
            ("dn: cn=a\nchangetype: modify\nadd: cn\n-\n", 3, "no value to add"),
            ("dn: cn=a\nchangetype: modify\nincrement: n\nn: 1\nn: 2\n-\n", 3, "increment needs one value"),
            ("dn: cn=a\nchangetype: modify\nincrement: n\n", 3, "increment needs one value"),
            ("dn: cn=a\nchangetype: modrdn", 2, "newrdn is missing after this line"),
            ("dn: cn=a\nchangetype: modrdn\ndeleteoldrdn: 1", 3, "newrdn is missing before this line"),
            ("dn: cn=a\nchangetype: modrdn\nnewrdn: a\n", 3, "\"=\" is missing after a"),
            ("dn: cn=a\nchangetype: modrdn\nnewrdn: cn=b,cn=c\n", 3, "more than one relative name"),
            ("dn: cn=a\nchangetype: modrdn\nnewrdn: cn=b\n", 3, "deleteoldrdn is missing"),
            ("dn: cn=a\nchangetype: modrdn\nnewrdn: cn=b\ndeleteoldrdn: yes", 4, "deleteoldrdn is \"yes\""),
            ("dn: cn=a\nchangetype: modrdn\nnewrdn: cn=b\ndeleteoldrdn: 1\nsn: a", 5, "the change is complete"),
            ("dn: cn=a\ncontrol: 1.2.3\ncn: a", 1, "there is a control (1.2.3), but no change"),
            ("dn: cn=a\ncontrol: abc\nchangetype: delete", 2, "\"abc\" is not the type of a control"),
            ("dn: cn=a\ncontrol: 1.2 maybe\nchangetype: delete", 2, "criticality is \"maybe\""),
            ("dn: cn=a\ncontrol: 1.2 true x\nchangetype: delete", 2, "more behind the control's criticality"),
            ("dn: cn=a\ncontrol:: MS4y\nchangetype: delete", 2, "a control line is not in base64"),
            (" dn: cn=a\ncn: a", 1, "begins with a space"),
            ("# comment\n\n cn: a\ndn: cn=a", 3, "begins with a space"),
        ])
    func malformed(_ text: String, _ line: Int, _ reason: String) throws {
        let outcomes = readLDIF((text + "\n\ndn: cn=next\ncn: next\n").utf8)
        #expect(outcomes.count == 2)
        guard case .failure(let error) = outcomes[0] else {
            Issue.record("no error, but \(outcomes[0])")
            return
        }
        #expect(error.position == line)
        #expect(error.reason.contains(reason), "\(error)")
        #expect(error.description == "test.ldif:\(line): \(error.reason); \(error.hint)")
        #expect(!error.hint.isEmpty)
        #expect(try outcomes[1].get().dn == DN(parsing: "cn=next"))
    }

    @Test("A record over the limit is an error at its first line, and the next record is read")
    func limits() throws {
        let long = String(repeating: "x", count: 2000)
        let many = String(repeating: "cn: 1\n", count: 200)
        let folded = "cn: 1\n" + String(repeating: " 234567890\n", count: 200)
        for body in ["cn: \(long)\ncn: y\n", many, folded, "# \(long)\n"] {
            let text = "\ndn: cn=a\n\(body)\ndn: cn=b\n"
            for pieces in [1, 7, 100, 5000] {
                let outcomes = readLDIF(text.utf8, pieces: pieces, limit: 1000)
                #expect(outcomes.count == 2)
                let error = #expect(throws: LDAPSyntaxError.self) { try outcomes[0].get() }
                #expect(error?.position == 2)
                #expect(error?.reason.contains("larger than 1000 bytes") == true)
                #expect(try outcomes[1].get().dn == DN(parsing: "cn=b"))
            }
        }
        #expect(readLDIF("dn: cn=\(long)".utf8, limit: 1000).count == 1)
        #expect(readLDIF("dn: cn=\(long)\n".utf8, pieces: 1, limit: 1000).count == 1)
        #expect(try records(String(repeating: "dn: cn=a\n# \(long.prefix(800))\n\n", count: 20)).count == 20)
    }
}
