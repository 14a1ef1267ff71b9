import Testing

@testable import LDAP

@Suite struct `Search filters` {
    @Test func `values are escaped and cannot change the filter`() {
        let filter = Filter.equal("uid", "*)(|(uid=*\\\u{0}\né")
        #expect(filter.description == #"(uid=\2a\29\28|\28uid=\2a\5c\00\0aé)"#)
        #expect(Filter.equal("a", AttributeValue(bytes: [0xC3, 0x41])).description == #"(a=\c3A)"#)
    }

    /// RFC 4515, section 4, and RFC 4526.
    @Test(
        "a filter of RFC 4515 is taken as it is written",
        arguments: [
            "(cn=Babs Jensen)", "(!(cn=Tim Howes))", "(&(objectClass=Person)(|(sn=Jensen)(cn=Babs J*)))",
            "(o=univ*of*mich*)", "(seeAlso=)", "(cn:caseExactMatch:=Fred Flintstone)", "(cn:=Betty Rubble)",
            "(sn:dn:2.4.6.8.10:=Barney Rubble)", "(:1.2.3:=Wilma Flintstone)", #"(cn=*\2A*)"#, "(cn=*)", "(n>=5)",
            "(cn;lang-de=a=b)", "(cn= a )", "(&)", "(|)", "(&(a=b) (c=d))",
        ])
    func wellFormed(_ text: String) {
        #expect(Filter(parsing: text)?.description == text)
    }

    @Test(
        "a malformed filter is refused",
        arguments: [
            "", "cn=a", "(", "()", "(cn)", "(cn=a", "(cn=a))", "(cn=a)(b=c)", "(cn=a(b)", "(&(a=b)", "(&(a=b)c)", "(!)",
            "(!(a=b)(c=d))", "(c n=a)", "(cn~a)", #"(cn=\)"#, #"(cn=\4)"#, "(cn=a**b)", "(cn=**)", "(n>=*)", "(cn:dn)",
            "(:=a)", "(cn:dn:a:b:=c)", "(cn:a;b:=c)", "(cn=a\u{0})", "(cn=a)\u{0}", "(ä=ö)", "(cn=é(", "(=a)",
        ])
    func malformed(_ text: String) {
        #expect(Filter(parsing: text) == nil)
    }

    @Test func `what is asserted is the filter in the form of the protocol`() {
        let filter = Filter.and([.equal("a", AttributeValue(bytes: [0x2A, 0])), .present("b")])
        #expect(
            filter.encoded == [
                0xA0, 0x0C, 0xA3, 0x07, 0x04, 0x01, 0x61, 0x04, 0x02, 0x2A, 0x00, 0x87, 0x01, 0x62,
            ])
    }
}
