import DirectoryModel
import Testing

@Suite("Filters") struct FilterTests {
    /// RFC 4515, section 4, and RFC 4526.
    static let examples: [(String, Filter)] = [
        ("(cn=Babs Jensen)", .equal("cn", "Babs Jensen")),
        ("(!(cn=Tim Howes))", .not(.equal("cn", "Tim Howes"))),
        (
            "(&(objectClass=Person)(|(sn=Jensen)(cn=Babs J*)))",
            .and([
                .equal("objectClass", "Person"),
                .or([.equal("sn", "Jensen"), .substrings("cn", initial: "Babs J", any: [], final: nil)]),
            ])
        ),
        ("(o=univ*of*mich*)", .substrings("o", initial: "univ", any: ["of", "mich"], final: nil)),
        ("(seeAlso=)", .equal("seeAlso", "")),
        (
            "(cn:caseExactMatch:=Fred Flintstone)",
            .extensible(attribute: "cn", rule: "caseExactMatch", dnAttributes: false, value: "Fred Flintstone")
        ),
        ("(cn:=Betty Rubble)", .extensible(attribute: "cn", rule: nil, dnAttributes: false, value: "Betty Rubble")),
        (
            "(sn:dn:2.4.6.8.10:=Barney Rubble)",
            .extensible(attribute: "sn", rule: "2.4.6.8.10", dnAttributes: true, value: "Barney Rubble")
        ),
        ("(o:dn:=Ace Industry)", .extensible(attribute: "o", rule: nil, dnAttributes: true, value: "Ace Industry")),
        (
            "(:1.2.3:=Wilma Flintstone)",
            .extensible(attribute: nil, rule: "1.2.3", dnAttributes: false, value: "Wilma Flintstone")
        ),
        (
            "(:DN:2.4.6.8.10:=Dino)",
            .extensible(attribute: nil, rule: "2.4.6.8.10", dnAttributes: true, value: "Dino")
        ),
        (
            #"(o=Parens R Us \28for all your parenthetical needs\29)"#,
            .equal("o", "Parens R Us (for all your parenthetical needs)")
        ),
        (#"(cn=*\2A*)"#, .substrings("cn", initial: nil, any: ["*"], final: nil)),
        (#"(filename=C:\5cMyFile)"#, .equal("filename", #"C:\MyFile"#)),
        (#"(bin=\00\00\00\04)"#, .equal("bin", AttributeValue(bytes: [0, 0, 0, 4]))),
        (#"(sn=Lu\c4\8di\c4\87)"#, .equal("sn", "Lučić")),
        (
            "(1.3.6.1.4.1.1466.0=\\04\\02\\48\\69)",
            .equal("1.3.6.1.4.1.1466.0", AttributeValue(bytes: [4, 2, 0x48, 0x69]))
        ),
        ("(cn=*)", .present("cn")),
        ("(cn=*a)", .substrings("cn", initial: nil, any: [], final: "a")),
        ("(cn=a*b)", .substrings("cn", initial: "a", any: [], final: "b")),
        ("(n>=5)", .greaterOrEqual("n", "5")),
        ("(n<=5)", .lessOrEqual("n", "5")),
        ("(n~=5)", .approximately("n", "5")),
        ("(cn;lang-de=a=b)", .equal("cn;lang-de", "a=b")),
        ("(cn= a )", .equal("cn", " a ")),
        ("(&)", .and([])),
        ("(|)", .or([])),
        (" ( & (a=b)\n\t( ! (c=d) ) ) ", .and([.equal("a", "b"), .not(.equal("c", "d"))])),
    ]

    @Test("A filter is read as RFC 4515 says", arguments: examples)
    func parsing(_ text: String, _ expected: Filter) throws {
        #expect(try Filter(parsing: text) == expected)
        #expect(try Filter(parsing: expected.description) == expected)
    }

    @Test(
        "A malformed filter is refused at its place",
        arguments: [
            ("", 1), ("cn=a", 1), ("(", 2), ("()", 2), ("(cn)", 4), ("(cn=a", 6), ("(cn=a))", 7), ("(cn=a)(b=c)", 7),
            ("(cn=a(b)", 6), ("(&(a=b)", 8), ("(&(a=b)c)", 8), ("(!)", 3), ("(!(a=b)(c=d))", 8), ("(c n=a)", 2),
            ("(cn~a)", 4),
            (#"(cn=\)"#, 5), (#"(cn=\4)"#, 5), (#"(cn=\*)"#, 5), ("(cn=a**b)", 7), ("(cn=**)", 6), ("(n>=*)", 5),
            ("(cn:dn)", 7), ("(:dn:=a)", 7), ("(:=a)", 4), ("(cn:dn:a:b:=c)", 11), ("(cn:a;b:=c)", 8),
            ("(cn=\u{0})", 5), ("(ä=ö)", 2),
            ("(cn=é(", 6), ("(=a)", 2),
        ])
    func malformed(_ text: String, _ position: Int) {
        let error = #expect(throws: FilterSyntaxError.self) { try Filter(parsing: text) }
        #expect(error?.position == position)
        #expect(error?.cure.isEmpty == false)
        #expect(error.map(String.init(describing:))?.contains("character \(position): ") == true)
    }

    @Test("Values are escaped on output and cannot change the filter")
    func escaping() {
        let filter = Filter.equal("uid", "*)(|(uid=*\\\u{0}\né")
        #expect(filter.description == #"(uid=\2a\29\28|\28uid=\2a\5c\00\0aé)"#)
        #expect(Filter.equal("a", AttributeValue(bytes: [0xC3, 0x41])).description == #"(a=\c3A)"#)
        let pieces = Filter.substrings("cn", initial: "*", any: ["(", ")"], final: "\\")
        #expect(pieces.description == #"(cn=\2a*\28*\29*\5c)"#)
    }

    @Test("Nesting is limited, so that no input overflows the stack")
    func depth() throws {
        func nested(_ depth: Int, _ open: String) -> String {
            String(repeating: open, count: depth - 1) + "(a=b)" + String(repeating: ")", count: depth - 1)
        }
        for open in ["(!", "(&"] {
            _ = try Filter(parsing: nested(Filter.maximumDepth, open))
            let error = #expect(throws: FilterSyntaxError.self) {
                try Filter(parsing: nested(Filter.maximumDepth + 1, open))
            }
            #expect(error?.reason.contains("nested deeper") == true)
            #expect(throws: FilterSyntaxError.self) { try Filter(parsing: String(repeating: open, count: 1_000_000)) }
        }
    }
}
