"""Single sign-on against a provider that others wrote (oidc-provider on Node): people log in without scripts, and a
provider that is mixed up, replayed or forged opens nothing."""

import http.cookiejar
import re
import subprocess
import unittest
import urllib.error
import urllib.parse
import urllib.request

from room import PEERS, Room
from test_oauth import NODE, PASSWORD, Browser, Stay

SECRET = "what-the-client-shows-0123456789"


class Provider:
    """The provider, on a port of its own."""

    def __init__(self):
        command = [NODE, "fixtures/provider.mjs", PEERS, SECRET]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self.url

    def set(self, **what):
        urllib.request.urlopen(f"{self.url}/-/set?{urllib.parse.urlencode(what)}", timeout=10).read()

    def close(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()


class Person:
    """A browser without scripts that goes wherever it is sent, and fills in the provider's forms."""

    def __init__(self, room, provider, name):
        self.room, self.provider, self.name = room, provider, name
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies), Stay())
        self.page = ""

    def go(self, url, fields=None):
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        request = urllib.request.Request(url, data=data)
        if data is not None:
            request.add_header("Origin", "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url)))
        try:
            with self.opener.open(request, timeout=30) as answer:
                self.page = answer.read().decode()
                return answer.status, None
        except urllib.error.HTTPError as error:
            self.page = error.read().decode()
            target = error.headers.get("Location")
            return error.code, target and urllib.parse.urljoin(url, target)

    def begin(self, next="/account", query=None):
        """Clicks on the login page; answers where the provider is, with what was asked for changed."""
        status, _ = self.go(f"{self.room.url}/login?{urllib.parse.urlencode({'next': next})}")
        assert status == 200, self.page
        link = re.search(r'<a href="(/login/oidc[^"]*)">Log in with ([^<]+)</a>', self.page)
        assert link and link.group(2) == "Example", self.page
        status, target = self.go(self.room.url + link.group(1).replace("&amp;", "&"))
        assert status == 303 and target.startswith(f"{self.provider.url}/auth?"), (status, target, self.page)
        if query:
            url = urllib.parse.urlsplit(target)
            asked = {**dict(urllib.parse.parse_qsl(url.query)), **query}
            target = url._replace(query=urllib.parse.urlencode(asked)).geturl()
        return target

    def at_the_provider(self, target):
        """Logs in there and agrees; answers where the browser is sent back to."""
        for _ in range(20):
            if target.startswith(f"{self.room.url}/login/oidc/callback"):
                return target
            status, onwards = self.go(target)
            if status == 200:
                form = re.search(r'<form[^>]*action="([^"]+)"', self.page).group(1)
                prompt = re.search(r'name="prompt" value="([^"]+)"', self.page).group(1)
                status, onwards = self.go(form, {"prompt": prompt, "login": self.name, "password": "any"})
            assert onwards, (status, target, self.page)
            target = onwards
        raise AssertionError(f"the way goes on and on: {target}")

    def back(self, **more):
        return self.at_the_provider(self.begin(**more))

    def log_in(self, **more):
        """The whole login; answers the last status and where it leads."""
        return self.go(self.back(**more))

    def session(self):
        return next((cookie.value for cookie in self.cookies if cookie.name == "opsroom"), None)


class SingleSignOn(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.room = Room()
        cls.provider = Provider()
        cls.addClassCleanup(cls.provider.close)
        cls.room.environment = {
            "OPSROOM__OIDC__ISSUER": cls.provider.url,
            "OPSROOM__OIDC__NAME": "Example",
            "OPSROOM__OIDC__CLIENT_ID": "opsroom",
            "OPSROOM__OIDC__CLIENT_SECRET": "secret://env/SSO",
            "OPSROOM_SECRET_SSO": SECRET,
            "OPSROOM__OIDC__SCOPES": '["openid", "profile", "email", "groups"]',
            "OPSROOM__OIDC__ROLES": '[{"group": "ops", "role": "operator", "teams": ["payments"]}, {"group": "leads", "role": "administrator"}]',
            "OPSROOM__OIDC__SIGN_UP": "true",
            "OPSROOM__OIDC__PRIVATE_ADDRESS": "true",
        }
        cls.room.secrets.add(SECRET)
        cls.enterClassContext(cls.room)
        cls.provider.set(callback=f"{cls.room.url}/login/oidc/callback")

    def setUp(self):
        self.provider.set(forgery="", groups='["ops"]')

    def person(self, name):
        return Person(self.room, self.provider, name)

    def profile(self, person):
        status, profile = self.room.request("GET", "/auth/profile", key=person.session())
        self.assertEqual(status, 200, profile)
        return profile

    def refused(self, person, words="", status=401, **more):
        answered, target = person.log_in(**more)
        self.assertEqual((answered, target), (status, None), person.page)
        self.assertIsNone(person.session())
        self.assertRegex(person.page, rf'role="alert">[^<]*{words}')

    def test_a_person_logs_in_and_groups_give_the_role_at_each_login(self):
        ada = self.person("ada")
        self.assertEqual(ada.log_in(next="/account"), (303, f"{self.room.url}/account"))
        profile = self.profile(ada)
        self.assertEqual((profile["username"], profile["email"], profile["is_verified"]), ("ada", "ada@example.com", True))
        self.assertEqual((profile["role"], profile["teams"]), ("operator", ["payments"]))
        self.assertEqual(ada.go(f"{self.room.url}/account")[0], 200)
        self.assertIn("Logins elsewhere", ada.page)
        self.provider.set(groups='["leads"]')
        again = self.person("ada")
        again.log_in()
        self.assertEqual((self.profile(again)["id"], self.profile(again)["role"]), (profile["id"], "administrator"))
        self.provider.set(groups='["others"]')
        self.refused(self.person("ada"), "none of your groups", status=403)
        self.assertEqual(self.room.request("GET", "/auth/profile", key=again.session())[0], 401, "what was open has ended")
        self.room.nowhere()
        # It was started again, on another port.
        self.provider.set(callback=f"{self.room.url}/login/oidc/callback")

    def test_open_redirect(self):
        for number, out in enumerate(("//evil.example", "https://evil.example", "/\\evil.example")):
            person = self.person(f"bob{number}")
            self.assertEqual(person.log_in(next=out), (303, f"{self.room.url}/account"), out)

    def test_an_address_alone_opens_no_account(self):
        made = self.room.operation("create-user", "--username", "carol", "--email", "carol@example.com", "--role", "operator")
        self.room.request("POST", "/auth/password/reset", {"token": made["invitation"], "password": PASSWORD})
        self.refused(self.person("carol"), "there is an account with your address", status=403)
        # With the password, on the account's page, the login is linked.
        page = Browser(self.room.url)
        page.go("/login", {"next": "/account", "username": "carol", "password": PASSWORD})
        self.assertEqual(page.go("/account", {"do": "link_identity", "password": PASSWORD}), (200, None), page.page)
        link = re.search(r'<a href="([^"]+/login/oidc\?link=olk_[0-9a-f]+)">', page.page)
        self.assertTrue(link, page.page)
        status, target = page.go(link.group(1))
        person = self.person("carol")
        back = person.at_the_provider(target)
        self.assertEqual(page.go(back), (303, "/account"), page.page)
        linked = self.person("carol")
        linked.log_in()
        self.assertEqual(self.profile(linked)["id"], made["user"]["id"])

    def test_forged_and_stripped_tokens(self):
        for forgery, words in {
            "none": "algorithms", "stripped": "signature", "hs256": "algorithms", "tampered": "signature",
            "foreign": "signature", "expired": "has ended",
        }.items():
            with self.subTest(forgery):
                self.provider.set(forgery=forgery)
                self.refused(self.person("mallory"), words)
        self.assertNotIn("mallory", str(self.room.operation("list-users", "--limit", "200")))

    def test_wrong_audience(self):
        self.provider.set(forgery="audience")
        self.refused(self.person("mallory"), "another client")

    def test_wrong_nonce(self):
        self.refused(self.person("mallory"), "another login", query={"nonce": "of-another-login"})

    def test_mixed_up_issuer(self):
        self.provider.set(forgery="issuer")
        self.refused(self.person("mallory"), "another issuer")
        self.provider.set(forgery="")
        person = self.person("mallory")
        back = urllib.parse.urlsplit(person.back())
        pairs = dict(urllib.parse.parse_qsl(back.query))
        self.assertEqual(pairs["iss"], self.provider.url)
        for iss in ({"iss": "https://evil.example"}, {}):
            query = {**{name: value for name, value in pairs.items() if name != "iss"}, **iss}
            self.assertEqual(person.go(back._replace(query=urllib.parse.urlencode(query)).geturl())[0], 403, person.page)
        self.assertIsNone(person.session())

    def test_replayed_state(self):
        person = self.person("dan")
        back = person.back()
        jar = [cookie for cookie in person.cookies if cookie.name == "opsroom-login"]
        self.assertEqual(person.go(back)[0], 303, person.page)
        person.cookies.clear()
        for cookie in jar:
            person.cookies.set_cookie(cookie)
        self.assertIn(person.go(back)[0], (401, 403), person.page)
        self.assertIsNone(person.session())
        # In another browser it opens nothing either, and neither does it before it was used.
        for url in (back, self.person("dan").back()):
            other = self.person("dan")
            self.assertEqual(other.go(url)[0], 403, other.page)
            self.assertIsNone(other.session())

    def test_key_rotation(self):
        self.person("erin").log_in()
        self.provider.set(key="second")
        person = self.person("erin")
        self.assertEqual(person.log_in()[0], 303, person.page)
        self.assertEqual(self.profile(person)["username"], "erin")


if __name__ == "__main__":
    unittest.main()
